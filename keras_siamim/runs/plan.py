"""Which epochs a run has, and which schedule each of them follows, extensions included."""

import dataclasses

from keras_siamim.recipes import Recipe

# How a finished run can go on.
SCHEDULES = ("rewarmed", "continued")


@dataclasses.dataclass(frozen=True)
class Stage:
    """Epochs that share one optimizer state and one schedule.

    Args:
        number: 0 for what the recipe says; one more each time the schedule starts again.
        first_epoch: Of the run, where the schedule begins.
        recipe: `Recipe` whose `epochs` and `warmup_epochs` are those of the schedule.
    """

    number: int
    first_epoch: int
    recipe: Recipe

    @property
    def last_epoch(self):
        """Epochs of the run when the stage is finished."""
        return self.first_epoch + self.recipe.epochs


def last_stage(recipe, extensions=()):
    """The stage that a run is in or has finished with, after all its extensions.

    `"continued"` lengthens the schedule, as if the run had been planned longer: the learning rate takes up the longer
    cosine where it is by then. `"rewarmed"` starts the schedules of learning rate and target momentum again over the
    new epochs, with a warm-up of the same share of them and a fresh optimizer.

    Args:
        recipe: The run's `Recipe`.
        extensions: Dictionaries with `epochs` and `schedule`, one of `SCHEDULES`.

    Raises:
        ValueError: For an unknown schedule or fewer than one epoch.

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
            raise ValueError(f"A run can be continued for 1 epoch or more. Received: {epochs}.")
        if schedule == "continued":
            # The warm-up is over; it must not become longer in hindsight.
            rising = stage.recipe.rising_epochs
            longer = dataclasses.replace(stage.recipe, epochs=stage.recipe.epochs + epochs, warmup_epochs=rising)
            stage = dataclasses.replace(stage, recipe=longer)
        else:
            warmup = recipe.rising_epochs * epochs / recipe.epochs
            again = dataclasses.replace(recipe, epochs=epochs, warmup_epochs=warmup)
            stage = Stage(stage.number + 1, stage.last_epoch, again)
    return stage
