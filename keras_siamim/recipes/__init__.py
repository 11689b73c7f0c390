"""Training recipes: one module per recipe, whose docstring gives command, cost and expected result.

Each recipe module defines one `RECIPE`. `load_recipe` finds it by the name of the module.
"""

import difflib
import importlib
import pkgutil
from typing import Any

from keras_siamim.recipes._as_json import recipe_differences, recipe_from_json, recipe_to_json
from keras_siamim.recipes._bands import reference_band
from keras_siamim.recipes._build import build_encoder, build_masking, build_model, build_views, compile_model
from keras_siamim.recipes._choice import Choice, choose_recipe, expected_cost
from keras_siamim.recipes._recipe import OBJECTIVES, Recipe

__all__ = [
    "OBJECTIVES",
    "Choice",
    "Recipe",
    "build_encoder",
    "build_masking",
    "build_model",
    "build_views",
    "choose_recipe",
    "compile_model",
    "expected_cost",
    "load_recipe",
    "recipe_differences",
    "recipe_from_json",
    "recipe_names",
    "recipe_to_json",
    "reference_band",
]


def recipe_names() -> list[str]:
    """Return the names of all recipes in alphabetical order.

    Example:
        >>> recipe_names()[0]
        'digits_tiny'
    """
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load_recipe(name: str, /, **overrides: Any) -> Recipe:
    """Return a recipe by its name.

    Args:
        name: String. One of `recipe_names()`.
        **overrides: New values by key, see `Recipe.override`. Pass keys with a dot as `**{"encoder.depth": 2}`.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: If `name` or a key is unknown. The message suggests the nearest one.

    Example:
        >>> load_recipe("digits_tiny", epochs=5, **{"encoder.depth": 2}).epochs
        5
    """
    names = recipe_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"`name` must be one of {', '.join(names)}. Received: {name!r}.{hint}")
    return importlib.import_module(f"{__name__}.{name}").RECIPE.override(overrides)
