"""Conversion of recipes to JSON and back, so that a run records how it was trained."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_siamim.recipes._recipe import SECTIONS, Recipe


def recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    """Return all values of a recipe, defaults included.

    Args:
        recipe: A `Recipe`.

    Returns:
        A dictionary of JSON types.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> recipe_to_json(load_recipe("digits_tiny"))["encoder"]["depth"]
        4
    """
    # Defaults are written out, so that a later version's defaults don't change the meaning of a recorded recipe.
    resolved: dict[str, Any] = {}
    for key, value in recipe.keys().items():  # noqa: SIM118  a method of recipes, not a dictionary's
        section, _, entry = key.partition(".")
        if entry:
            resolved.setdefault(section, {})[entry] = _to_json_types(value)
        else:
            resolved[section] = _to_json_types(value)
    return {field.name: resolved.get(field.name) for field in dataclasses.fields(recipe)}


def recipe_from_json(content: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a dictionary that `recipe_to_json` made.

    Fields and entries that were added to recipes since then take their defaults.

    Args:
        content: Dictionary of JSON types.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: If a field or entry is unknown, a required field is missing, or a value is out of range.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> recipe_from_json(recipe_to_json(load_recipe("digits_tiny"))).epochs
        40
    """
    fields = {field.name for field in dataclasses.fields(Recipe)}
    if unknown := sorted(content.keys() - fields):
        raise ValueError(
            f"`content` must have no fields other than {', '.join(sorted(fields))}. Received: {', '.join(unknown)}."
        )
    required = {f.name for f in dataclasses.fields(Recipe) if f.default is f.default_factory is dataclasses.MISSING}
    if missing := sorted(required - content.keys()):
        raise ValueError(
            f"`content` must have the fields {', '.join(sorted(required))}. "
            f"Received: a recipe without {', '.join(missing)}."
        )
    recipe = Recipe(**{name: _lists_to_tuples(value) for name, value in content.items()})
    if unknown := sorted(recipe.given_keys() - recipe.keys().keys()):
        raise ValueError(
            f"`content` must have only entries of a {recipe.objective} recipe. Received: {', '.join(unknown)}."
        )
    return recipe


def recipe_differences(recorded: Mapping[str, Any], requested: Mapping[str, Any]) -> list[str]:
    """Return the differences between two recipes in JSON form, one line per key.

    Args:
        recorded: Dictionary from `recipe_to_json`, saved when the run began.
        requested: Dictionary from `recipe_to_json`, of the recipe that is requested now.

    Returns:
        A list of strings, sorted by key.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> recorded, requested = load_recipe("digits_tiny"), load_recipe("digits_tiny", **{"encoder.depth": 6})
        >>> recipe_differences(recipe_to_json(recorded), recipe_to_json(requested))
        ['encoder.depth is 4 in the run, 6 is requested']
    """
    # An older recorded recipe lacks keys that were added since; its run used their defaults.
    before, now = _flatten(recipe_to_json(recipe_from_json(recorded))), _flatten(requested)
    return [
        f"{key} is {before.get(key)!r} in the run, {now.get(key)!r} is requested"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def _to_json_types(value):
    if isinstance(value, Mapping):
        return {str(name): _to_json_types(entry) for name, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [_to_json_types(entry) for entry in value]
    return value


def _lists_to_tuples(value):
    if isinstance(value, dict):
        return {name: _lists_to_tuples(entry) for name, entry in value.items()}
    return tuple(_lists_to_tuples(entry) for entry in value) if isinstance(value, list) else value


def _flatten(content):
    flat = {}
    for name, value in content.items():
        if name in SECTIONS and isinstance(value, dict):
            flat |= {f"{name}.{entry}": inner for entry, inner in value.items()}
        else:
            flat[name] = value
    return flat
