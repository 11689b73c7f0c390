"""From a recipe to the objects it describes."""

import inspect

from keras_siamim.backbones import ViTEncoder
from keras_siamim.data.masking import Masking
from keras_siamim.optimizers import AdamW, LossScaleOptimizer
from keras_siamim.recipes._recipe import ABLATIONS, OBJECTIVES
from keras_siamim.schedules import CosineMomentum, warmup_cosine


def build_model(recipe, total_steps):
    """The untrained objective with its encoder.

    Args:
        recipe: A `Recipe`.
        total_steps: Optimizer steps of the whole run, for the momentum schedule.

    Returns:
        A Keras model, not compiled.
    """
    encoder = ViTEncoder(image_size=recipe.image_size, dtype=recipe.dtype, name="encoder", **recipe.encoder)
    arguments = dict(recipe.model)
    if recipe.target_momentum is not None:
        cosine = recipe.momentum_schedule == "cosine"
        arguments["target_momentum"] = (
            CosineMomentum(recipe.target_momentum, total_steps) if cosine else recipe.target_momentum
        )
    return _objective(recipe)(encoder, dtype=recipe.dtype, **arguments)


def _objective(recipe):
    ablation = ABLATIONS.get(recipe.objective)
    axes = inspect.signature(ablation).parameters.keys() - {"encoder", "kwargs"} if ablation else ()
    return ablation if any(name in recipe.model for name in axes) else OBJECTIVES[recipe.objective]


def compile_model(model, recipe, steps_per_epoch, **compile_arguments):
    """Compile with the recipe's optimizer and schedule.

    Args:
        model: What `build_model` gave.
        recipe: A `Recipe`.
        steps_per_epoch: Optimizer steps of one epoch.
        **compile_arguments: As for `keras.Model.compile`.

    Returns:
        The model.
    """
    schedule = warmup_cosine(
        recipe.learning_rate, round(recipe.rising_epochs * steps_per_epoch), recipe.epochs * steps_per_epoch
    )
    accumulation = recipe.accumulation_steps if recipe.accumulation_steps > 1 else None
    optimizer = AdamW(schedule, gradient_accumulation_steps=accumulation, **recipe.optimizer)
    if recipe.dtype == "mixed_float16":
        optimizer = LossScaleOptimizer(optimizer)
    model.compile(optimizer, **compile_arguments)
    return model


def build_views(recipe):
    """The layer that cuts views; needs the `data` extra (TensorFlow and keras-cv)."""
    from keras_siamim.data.views.paired_views import PairedViews
    from keras_siamim.data.views.recipe import ViewRecipe

    view_2 = None if recipe.view_2 is None else ViewRecipe(**recipe.view_2)
    return PairedViews(recipe.image_size, view_1=ViewRecipe(**recipe.view_1), view_2=view_2, seed=recipe.seed)


def build_masking(recipe, grid):
    """Masks for a patch grid (rows, columns), or None for objectives without."""
    return None if recipe.masking is None else Masking.of_ratio(grid, **recipe.masking)
