"""A recipe as JSON and back, so that a run can say how it was trained."""

import dataclasses
from collections.abc import Mapping

from keras_siamim.recipes._recipe import SECTIONS, Recipe


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

    Fields and entries that were added since the recipe was written take their defaults.

    Raises:
        ValueError: For fields and entries that no recipe has, by name, and for values that no run can have.
    """
    fields = {field.name for field in dataclasses.fields(Recipe)}
    if unknown := sorted(content.keys() - fields):
        raise ValueError(
            f"A recipe must have the fields {', '.join(sorted(fields))}. Received also: {', '.join(unknown)}."
        )
    required = {f.name for f in dataclasses.fields(Recipe) if f.default is f.default_factory is dataclasses.MISSING}
    if lacking := sorted(required - content.keys()):
        raise ValueError(
            f"A recipe must have the fields {', '.join(sorted(required))}. It lacks: {', '.join(lacking)}."
        )
    recipe = Recipe(**{name: _revived(value) for name, value in content.items()})
    if unknown := sorted(recipe.given_keys() - recipe.keys().keys()):
        raise ValueError(
            f"A recipe for {recipe.objective} must have known entries only. Received: {', '.join(unknown)}."
        )
    return recipe


def recipe_differences(recorded, asked):
    """What two recipes as JSON disagree on, one line each.

    Args:
        recorded: What `recipe_to_json` gave when the run began.
        asked: The same of the recipe asked for now.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> recorded, asked = load_recipe("digits_tiny"), load_recipe("digits_tiny", **{"encoder.depth": 6})
        >>> recipe_differences(recipe_to_json(recorded), recipe_to_json(asked))
        ['encoder.depth is 4 in the run, 6 is asked for']
    """
    # A recorded recipe may lack what was added since: it then had the default.
    before, now = _flat(recipe_to_json(recipe_from_json(recorded))), _flat(asked)
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
    return value


def _revived(value):
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
