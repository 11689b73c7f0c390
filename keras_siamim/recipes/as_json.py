"""A recipe as JSON and back, so that a run can say how it was trained."""

import dataclasses
from collections.abc import Mapping

import keras

from keras_siamim.recipes.recipe import SECTIONS, Recipe


def recipe_to_json(recipe):
    """Everything a recipe says, defaults written out, so that a later version's defaults don't change its meaning.

    Args:
        recipe: A `Recipe`.

    Returns:
        A dictionary that `json.dump` takes.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> recipe_to_json(load_recipe("digits_tiny"))["encoder"]["depth"]
        4
    """
    resolved = {}
    for key, value in recipe.keys().items():  # noqa: SIM118  a method of recipes, not a dictionary's
        section, _, entry = key.partition(".")
        if entry:
            resolved.setdefault(section, {})[entry] = _plain(value)
        else:
            resolved[section] = _plain(value)
    return {field.name: resolved.get(field.name) for field in dataclasses.fields(recipe)}


def recipe_from_json(content):
    """Inverse of `recipe_to_json`.

    Raises:
        TypeError: For fields that no recipe has.
        ValueError: For values that no run can have.
    """
    return Recipe(**{name: _revived(value) for name, value in content.items()})


def recipe_differences(recorded, asked):
    """What two recipes as JSON disagree on, one line each.

    Args:
        recorded: What `recipe_to_json` gave when the run began.
        asked: The same of the recipe asked for now.

    Example:
        >>> recipe_differences({"encoder": {"depth": 4}, "seed": 0}, {"encoder": {"depth": 6}, "seed": 0})
        ['encoder.depth is 4 in the run, 6 is asked for']
    """
    before, now = _flat(recorded), _flat(asked)
    return [
        f"{key} is {before.get(key)!r} in the run, {now.get(key)!r} is asked for"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def _plain(value):
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    return keras.saving.serialize_keras_object(value) if hasattr(value, "get_config") else value


def _revived(value):
    if isinstance(value, dict) and "class_name" in value and "config" in value:
        return keras.saving.deserialize_keras_object(value)
    if isinstance(value, dict):
        return {name: _revived(entry) for name, entry in value.items()}
    return tuple(_revived(entry) for entry in value) if isinstance(value, list) else value


def _flat(content):
    flat = {}
    for name, value in content.items():
        if name in SECTIONS and isinstance(value, dict):
            flat |= {f"{name}.{entry}": inner for entry, inner in value.items()}
        else:
            flat[name] = value
    return flat
