"""The recorded runs of this package belong to its recipes of today."""

from pathlib import Path

import pytest

from keras_siamim import recipes
from keras_siamim.callbacks.reference_curve import read_recorded_runs
from keras_siamim.recipes._bands import SUFFIX, comparable_recipe

pytestmark = pytest.mark.one_backend("torch")

PATHS = sorted(Path(recipes.__file__).parent.glob(f"*{SUFFIX}"))


def test_the_demonstration_has_a_band():
    assert "digits_tiny" + SUFFIX in {path.name for path in PATHS}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_recorded_runs_have_the_settings_of_their_recipe(path):
    content, band = read_recorded_runs(path)
    recipe = recipes.load_recipe(path.name.removesuffix(SUFFIX))
    assert content["recipe"] == comparable_recipe(recipe)
    assert band.runs == len({run["seed"] for run in content["runs"]}) >= 5
    found = recipes.reference_band(recipe, content["data"])
    assert found is not None
    assert found.place(recipe.epochs - 1, content["runs"][0]["loss"][-1]) == "within"
