"""Recorded runs of recipes, and the band of losses that another run should have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_siamim.callbacks.reference_curve import LossBand, read_recorded_runs
from keras_siamim.recipes._as_json import recipe_to_json
from keras_siamim.recipes._recipe import Recipe

SUFFIX = ".runs.json"
# Settings that change the numbers of a run only as another seed does.
IGNORED = ("seed",)


def comparable_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return the settings of a recipe that two comparable runs share, as JSON types."""
    return {name: value for name, value in recipe_to_json(recipe).items() if name not in IGNORED}


def comparable_data(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a data set's identity that two comparable runs share: its size and its first images."""
    return {name: identity[name] for name in ("size", "first_images")}


def reference_band(recipe: Recipe, identity: Mapping[str, Any], folder: Path | None = None) -> LossBand | None:
    """Return the band of losses of the recorded runs with the same settings and images, seeds aside.

    Args:
        recipe: A `Recipe`.
        identity: Dictionary with `size` and `first_images`, the `identity` of the data in a run's description.
        folder: Path of the folder of recorded runs, `NAME.runs.json`. Defaults to None, those of this package.

    Returns:
        A `LossBand`, or None if there are no such runs.

    Example:
        >>> from keras_siamim.recipes import load_recipe
        >>> reference_band(load_recipe("digits_tiny"), {"size": 10, "first_images": []})
    """
    wanted = comparable_recipe(recipe), comparable_data(identity)
    for path in sorted((folder or Path(__file__).parent).glob(f"*{SUFFIX}")):
        content, band = read_recorded_runs(path)
        if (content["recipe"], content["data"]) == wanted:
            return band
    return None
