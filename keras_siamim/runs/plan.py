"""Training plan of a run: its stages, each with its own schedule."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from keras_siamim.recipes import Recipe

# Schedules for the additional epochs of a finished run.
SCHEDULES = ("rewarmed", "continued")


@dataclasses.dataclass(frozen=True)
class Stage:
    """Consecutive epochs of a run that share one optimizer state and one schedule.

    Args:
        number: Integer. Index of the stage: 0 for the epochs of the recipe, then 1 more for each restarted schedule.
        first_epoch: Integer. Epoch of the run at which the schedule begins, from 0.
        recipe: `Recipe` with the `epochs` and `warmup_epochs` of this stage.

    Example:
        >>> recipe = Recipe(epochs=10, warmup_epochs=1, batch_size=64, base_learning_rate=1e-3)
        >>> Stage(1, first_epoch=40, recipe=recipe).last_epoch
        50
    """

    number: int
    first_epoch: int
    recipe: Recipe

    @property
    def last_epoch(self) -> int:
        """Number of epochs of the run at the end of this stage."""
        return self.first_epoch + self.recipe.epochs


def last_stage(recipe: Recipe, extensions: Sequence[Mapping[str, Any]] = ()) -> Stage:
    """Return the stage of a run after all its extensions.

    The schedule `"continued"` lengthens the cosine, as if the run had been planned longer. The learning rate continues
    from the current epoch of the longer cosine. The schedule `"rewarmed"` restarts learning rate and target momentum
    over the new epochs. It has a warm-up of the same fraction of epochs and a fresh optimizer.

    Args:
        recipe: `Recipe` of the run.
        extensions: Sequence of dictionaries with `epochs` and `schedule`, one of `SCHEDULES`. Defaults to none.

    Returns:
        A `Stage`.

    Raises:
        ValueError: If a schedule is unknown, or an extension has fewer than one epoch.

    Example:
        >>> recipe = Recipe(epochs=40, warmup_epochs=4, batch_size=64, base_learning_rate=1e-3)
        >>> stage = last_stage(recipe, [{"epochs": 10, "schedule": "rewarmed"}])
        >>> stage.first_epoch, stage.last_epoch, stage.recipe.warmup_epochs
        (40, 50, 1.0)
        >>> last_stage(recipe, [{"epochs": 10, "schedule": "continued"}]).recipe.epochs
        50
    """
    stage = Stage(0, 0, recipe)
    for extension in extensions:
        epochs, schedule = extension["epochs"], extension["schedule"]
        if schedule not in SCHEDULES:
            raise ValueError(f"`schedule` must be one of {', '.join(SCHEDULES)}. Received: {schedule!r}.")
        if epochs < 1:
            raise ValueError(f"`epochs` must be 1 or more. Received: {epochs}.")
        if schedule == "continued":
            # The warm-up is over: keep its length, although it is a fraction of the epochs.
            rising = stage.recipe.rising_epochs
            longer = dataclasses.replace(stage.recipe, epochs=stage.recipe.epochs + epochs, warmup_epochs=rising)
            stage = dataclasses.replace(stage, recipe=longer)
        else:
            warmup = recipe.rising_epochs * epochs / recipe.epochs
            again = dataclasses.replace(recipe, epochs=epochs, warmup_epochs=warmup)
            stage = Stage(stage.number + 1, stage.last_epoch, again)
    return stage
