"""Construction of the objects that a recipe describes."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import keras

from keras_siamim.data.masking import Masking
from keras_siamim.optimizers import AdamW, LossScaleOptimizer
from keras_siamim.recipes._recipe import ABLATIONS, BACKBONES, OBJECTIVES, Recipe
from keras_siamim.schedules import CosineMomentum, warmup_cosine

if TYPE_CHECKING:
    from keras_siamim.data.views.paired_views import PairedViews


def build_model(recipe: Recipe, total_steps: int) -> keras.Model:
    """Create the untrained objective of a recipe with its encoder.

    Args:
        recipe: A `Recipe`.
        total_steps: Integer. Optimizer steps of the complete run, for the momentum schedule.

    Returns:
        An objective (`keras.Model`), not compiled.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> model = build_model(load_recipe("digits_tiny", **{"encoder.depth": 1}), total_steps=10)
        >>> type(model).__name__, model.encoder.grid
        ('SiameseIM', (4, 4))
    """
    arguments = dict(recipe.model)
    if recipe.target_momentum is not None:
        cosine = recipe.momentum_schedule == "cosine"
        arguments["target_momentum"] = (
            CosineMomentum(recipe.target_momentum, total_steps) if cosine else recipe.target_momentum
        )
    return _objective(recipe)(build_encoder(recipe), dtype=recipe.dtype, **arguments)


def build_encoder(recipe: Recipe) -> keras.Model:
    """Create the untrained encoder of a recipe.

    Args:
        recipe: A `Recipe`.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> build_encoder(load_recipe("digits_tiny", **{"encoder.depth": 1})).grid
        (4, 4)
    """
    backbone = BACKBONES[recipe.backbone]
    return backbone(image_size=recipe.image_size, dtype=recipe.dtype, name="encoder", **recipe.encoder)


def _objective(recipe):
    ablation = ABLATIONS.get(recipe.objective)
    axes = inspect.signature(ablation).parameters.keys() - {"encoder", "kwargs"} if ablation else ()
    return ablation if any(name in recipe.model for name in axes) else OBJECTIVES[recipe.objective]


def compile_model(model: keras.Model, recipe: Recipe, steps_per_epoch: int, **compile_arguments: Any) -> keras.Model:
    """Compile a model with the optimizer and the learning-rate schedule of a recipe.

    Args:
        model: Model from `build_model`.
        recipe: A `Recipe`.
        steps_per_epoch: Integer. Optimizer steps per epoch.
        **compile_arguments: Further arguments of `keras.Model.compile`.

    Returns:
        The same model.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> recipe = load_recipe("digits_tiny", **{"encoder.depth": 1})
        >>> compile_model(build_model(recipe, 400), recipe, steps_per_epoch=10).optimizer.global_clipnorm
        1.0
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


def build_views(recipe: Recipe) -> PairedViews:
    """Create the augmentation layer of a recipe.

    Requires the `data` extra (TensorFlow and keras-cv).

    Args:
        recipe: A `Recipe`.

    Returns:
        A `PairedViews` layer, which makes one or two views per image.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> type(build_views(load_recipe("digits_tiny"))).__name__
        'PairedViews'
    """
    from keras_siamim.data.views.paired_views import PairedViews
    from keras_siamim.data.views.recipe import ViewRecipe

    view_2 = None if recipe.view_2 is None else ViewRecipe(**recipe.view_2)
    return PairedViews(recipe.image_size, view_1=ViewRecipe(**recipe.view_1), view_2=view_2, seed=recipe.seed)


def build_masking(recipe: Recipe, grid: tuple[int, int]) -> Masking | None:
    """Create the mask generator of a recipe.

    Args:
        recipe: A `Recipe`.
        grid: Tuple (rows, columns) of patches.

    Returns:
        A `Masking`, or None for objectives without masks.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> build_masking(load_recipe("digits_tiny"), (4, 4)).num_masked
        8
    """
    return None if recipe.masking is None else Masking.of_ratio(grid, **recipe.masking)
