"""How to train: one module a recipe, whose docstring gives command, cost and what to expect.

A recipe module holds one `RECIPE`; `load_recipe` finds it by its module's name.
"""

import difflib
import importlib
import pkgutil

from keras_siamim.recipes._as_json import recipe_differences, recipe_from_json, recipe_to_json
from keras_siamim.recipes._build import build_masking, build_model, build_views, compile_model
from keras_siamim.recipes._recipe import OBJECTIVES, Recipe

__all__ = [
    "OBJECTIVES",
    "Recipe",
    "build_masking",
    "build_model",
    "build_views",
    "compile_model",
    "load_recipe",
    "recipe_differences",
    "recipe_from_json",
    "recipe_names",
    "recipe_to_json",
]


def recipe_names():
    """Names of all recipes, in alphabetical order."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load_recipe(name, /, **overrides):
    """A recipe by its name.

    Args:
        name: One of `recipe_names()`.
        **overrides: Values that differ, see `Recipe.override`; keys with a dot go in as a dictionary with `**`.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: For an unknown name or key, naming the nearest.

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
