"""Validation of the values of a recipe, before any image is opened or any model is built."""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING

import keras

from keras_siamim.arguments import number_in, whole_number
from keras_siamim.backbones.vit import POSITION_EMBEDDINGS
from keras_siamim.data.masking import MODES
from keras_siamim.layers.block import NORMS
from keras_siamim.losses.by_name import LOSSES
from keras_siamim.objectives.ablations import PREDICTION_TARGETS, RELATIVE_POSITIONS, SCOPES, TARGET_VIEWS

if TYPE_CHECKING:
    from keras_siamim.recipes._recipe import Recipe

POSITIVE_INTEGERS = (
    *("epochs", "batch_size", "accumulation_steps", "encoder.patch_size", "encoder.width", "encoder.depth"),
    *(
        "encoder.num_heads",
        "encoder.stem",
        "encoder.channels",
        "model.decoder_width",
        "model.decoder_heads",
        "model.decoder_depth",
    ),
    *("model.projector_width", "model.embedding_width", "masking.min_block"),
)
NON_NEGATIVE_INTEGERS = ("seed", "model.projector_depth")
# Intervals of numbers.
BOUNDS = {
    "base_learning_rate": "(0, inf)",
    "warmup": "[0, 1)",
    "warmup_epochs": "[0, inf)",
    "target_momentum": "[0, 1]",
    "encoder.mlp_ratio": "(0, inf)",
    "encoder.layer_scale_init": "[0, inf)",
    "encoder.drop_path_rate": "[0, 1)",
    "model.decoder_mlp_ratio": "(0, inf)",
    "model.negative_weight": "[0, inf)",
    "model.target_keep_ratio": "(0, 1]",
    "model.temperature": "(0, inf)",
    "optimizer.weight_decay": "[0, inf)",
    "optimizer.beta_1": "[0, 1)",
    "optimizer.beta_2": "[0, 1)",
    "optimizer.epsilon": "(0, inf)",
    "optimizer.global_clipnorm": "(0, inf)",
    "masking.mask_ratio": "(0, 1)",
}
CHOICES = {
    "encoder.position_embedding": POSITION_EMBEDDINGS,
    "model.projector_norm": NORMS,
    "model.decoder_norm": NORMS,
    "model.target_view": tuple(TARGET_VIEWS),
    "model.relative_positions": tuple(RELATIVE_POSITIONS),
    "model.prediction_target": tuple(PREDICTION_TARGETS),
    "model.scope": tuple(SCOPES),
    "model.loss": tuple(LOSSES),
    "masking.mode": MODES,
}


def check_values(recipe: Recipe) -> None:
    """Check the ranges and types of a recipe's values.

    Args:
        recipe: A `Recipe`.

    Raises:
        ValueError: If a number is not finite, out of bounds or not an integer, sizes do not divide each other, the ends
            of a view's range are reversed, or a choice or dtype policy is unknown. The message names the key.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> check_values(load_recipe("digits_tiny"))
    """
    values = {
        f"{name}.{entry}": value
        for name in ("encoder", "model", "optimizer", "masking")
        for entry, value in (getattr(recipe, name) or {}).items()
    }
    values |= {
        name: getattr(recipe, name) for name in (*BOUNDS, *POSITIVE_INTEGERS, *NON_NEGATIVE_INTEGERS) if "." not in name
    }
    for name, value in values.items():
        if value is None and name not in (*POSITIVE_INTEGERS, *NON_NEGATIVE_INTEGERS, "base_learning_rate", "warmup"):
            continue
        if name in POSITIVE_INTEGERS or name in NON_NEGATIVE_INTEGERS:
            whole_number(name, value, 1 if name in POSITIVE_INTEGERS else 0)
        elif name in BOUNDS:
            number_in(name, value, BOUNDS[name])
    sides = recipe.image_size if isinstance(recipe.image_size, (tuple, list)) else [recipe.image_size]
    if len(sides) not in (1, 2):
        raise ValueError(f"`image_size` must be one or two integers. Received: {recipe.image_size!r}.")
    for side in sides:
        whole_number("image_size", side)
    for name, choices in CHOICES.items():
        if isinstance(value := values.get(name, choices[0]), str) and value not in choices:
            raise ValueError(f"`{name}` must be one of {', '.join(choices)}. Received: {value!r}.")
    _check_sizes(recipe, sides, values)
    _check_views(recipe)
    try:
        keras.dtype_policies.get(recipe.dtype)
    except (ValueError, TypeError) as error:
        raise ValueError(f"`dtype` must be the name of a Keras dtype policy. Received: {recipe.dtype!r}.") from error


def _check_sizes(recipe, sides, values):
    """Raise `ValueError` if a patch size or a number of heads does not divide its size or width."""
    pairs = [("image_size", side, "encoder.patch_size", recipe.patch_size) for side in sides]
    if recipe.backbone == "ViT":
        heads = values.get("encoder.num_heads", 12)
        pairs.append(("encoder.width", values.get("encoder.width", 768), "encoder.num_heads", heads))
    if recipe.objective == "SiameseIM":
        heads = values.get("model.decoder_heads", 16)
        pairs.append(("model.decoder_width", values.get("model.decoder_width", 768), "model.decoder_heads", heads))
    for name, value, divisor_name, divisor in pairs:
        if value % divisor:
            raise ValueError(f"`{divisor_name}` must divide `{name}`. Received: {divisor}, {value}.")


def _check_views(recipe):
    for name in ("view_1", "view_2"):
        view = getattr(recipe, name) or {}
        for entry, value in view.items():
            for number in value if isinstance(value, (tuple, list)) else [value]:
                if not _is_number(number) or not math.isfinite(number) or number < 0:
                    raise ValueError(f"`{name}.{entry}` must be finite and non-negative. Received: {value!r}.")
            if isinstance(value, (tuple, list)) and (len(value) != 2 or not 0 < value[0] <= value[1]):
                raise ValueError(f"`{name}.{entry}` must be two numbers, 0 < low <= high. Received: {value!r}.")
            high = 0.5 if entry == "hue" else 1
            if (entry.endswith("_probability") or entry == "hue") and value > high:
                raise ValueError(f"`{name}.{entry}` must be in [0, {high}]. Received: {value!r}.")
            if entry == "area" and value[1] > 1:
                raise ValueError(f"`{name}.area` must be fractions of the image, at most 1. Received: {value!r}.")


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
