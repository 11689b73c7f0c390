import json

import numpy as np
import pytest

from keras_siamim.callbacks.reference_curve import band_of_losses, read_recorded_runs
from keras_siamim.data.sources import array_source
from keras_siamim.recipes import load_recipe, reference_band
from keras_siamim.runs import description as descriptions
from keras_siamim.runs.log import write_rows
from keras_siamim.runs.recorded_runs import record_runs

pytestmark = pytest.mark.one_backend

SOURCE = array_source(np.zeros((10, 8, 8, 3), "uint8"))
LOSSES = {0: [1.0, 0.50], 1: [1.2, 0.54], 2: [1.1, 0.52]}


def finished_run(folder, seed, **changes):
    """Write the folder of a finished run of two epochs."""
    folder.mkdir()
    recipe = load_recipe("digits_tiny", epochs=2, seed=seed, **changes)
    run = descriptions.describe("digits_tiny", recipe, {}, SOURCE)
    descriptions.write(folder, {**run, "starts": [descriptions.this_start()], "results": {"epochs": 2}})
    write_rows(folder / "log.csv", [{"epoch": n, "loss": loss} for n, loss in enumerate(LOSSES[seed])])
    return folder


def identity(source):
    return descriptions.describe("digits_tiny", load_recipe("digits_tiny"), {}, source)["data"]["identity"]


def test_runs_that_differ_in_their_seeds_become_the_band_of_their_recipe_and_images(tmp_path):
    record_runs([finished_run(tmp_path / str(seed), seed) for seed in LOSSES], tmp_path / "mine.runs.json")
    recipe, here = load_recipe("digits_tiny", epochs=2, seed=77), identity(SOURCE)
    band = reference_band(recipe, here, tmp_path)
    assert band.runs == 3
    np.testing.assert_allclose(band.low + band.high, [2.2, 1.04])
    assert reference_band(recipe.override({"epochs": 3}), here, tmp_path) is None
    assert reference_band(recipe.override({"encoder.depth": 2}), here, tmp_path) is None
    assert reference_band(recipe, {**here, "size": 11}, tmp_path) is None


def test_runs_of_different_settings_are_refused(tmp_path):
    folders = [finished_run(tmp_path / "0", 0), finished_run(tmp_path / "1", 1, batch_size=32)]
    with pytest.raises(ValueError, match="differ in their seeds only"):
        record_runs(folders, tmp_path / "mine.runs.json")
    assert not (tmp_path / "mine.runs.json").exists()


def test_the_band_holds_95_percent_of_further_runs():
    losses = np.random.default_rng(0).normal(size=(6, 4000))  # one epoch per experiment: five runs and a further one
    band = band_of_losses(losses[:5].tolist())
    share = np.mean([band.place(epoch, loss) == "within" for epoch, loss in enumerate(losses[5])])
    assert abs(share - 0.95) < 0.015


@pytest.mark.parametrize("losses", [[[1.0]], [[1.0], [1.0, 2.0]], [[1.0], [float("nan")]]])
def test_losses_without_a_band_are_refused(losses):
    with pytest.raises(ValueError, match="`losses` must be two or more runs"):
        band_of_losses(losses)


def test_files_without_runs_are_refused(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"recipe": {}, "data": {}}))
    with pytest.raises(ValueError, match="without runs"):
        read_recorded_runs(tmp_path / "a.json")
