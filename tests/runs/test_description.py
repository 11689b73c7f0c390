import json

import numpy as np
import pytest

from keras_siamim.data.sources import array_source
from keras_siamim.recipes import load_recipe, recipe_from_json, recipe_names, recipe_to_json
from keras_siamim.runs import description as descriptions

pytestmark = pytest.mark.one_backend


def described(size=20, content=0, **changes):
    pixels = np.random.default_rng(content).integers(0, 256, (size, 8, 8, 3)).astype("uint8")
    return descriptions.describe("digits_tiny", load_recipe("digits_tiny", **changes), {}, array_source(pixels))


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_are_restored_from_json(name):
    content = recipe_to_json(load_recipe(name))
    restored = recipe_from_json(json.loads(json.dumps(content)))
    assert recipe_to_json(restored) == content
    assert repr(restored.keys()) == repr(load_recipe(name).keys())


def test_a_description_is_read_as_it_was_written(tmp_path):
    assert descriptions.read(tmp_path) is None
    descriptions.write(tmp_path, described())
    assert descriptions.read(tmp_path) == described()


def test_a_damaged_description_is_refused(tmp_path):
    (tmp_path / descriptions.FILE).write_text("{")
    with pytest.raises(ValueError, match=r"intact run\.json"):
        descriptions.read(tmp_path)


def test_the_same_run_has_no_differences():
    assert descriptions.differences(described(), described()) == []


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"batch_size": 32}, "batch_size is 64 in the run, 32 is requested"),
        ({"encoder.depth": 2}, "encoder.depth is 4 in the run, 2 is requested"),
        ({"size": 21}, "size of the data is 20 in the run, 21 is requested"),
        ({"seed": 1}, "seed is 0 in the run, 1 is requested"),
    ],
    ids=str,
)
def test_another_run_is_refused_by_its_differences(changes, difference):
    size = changes.pop("size", 20)
    assert difference in descriptions.differences(described(), described(size, **changes))


def test_other_images_of_the_same_number_are_detected():
    (line,) = descriptions.differences(described(), {**described(content=1), "recipe": described()["recipe"]})
    assert line.startswith("first images of the data")


def test_only_a_finished_run_is_extended():
    run = described()
    with pytest.raises(ValueError, match="must be of a finished run.*40 epochs"):
        descriptions.extend(run, 10, "rewarmed")
    run["results"]["epochs"] = 40
    extended = descriptions.extend(run, 10, "rewarmed")
    assert not descriptions.is_finished(extended)
    assert descriptions.extend(extended, 10, "rewarmed") == extended
    stage = descriptions.stage_of(extended)
    assert (stage.number, stage.first_epoch, stage.last_epoch) == (1, 40, 50)
    assert stage.recipe.warmup_epochs == 1
    longer = descriptions.stage_of(descriptions.extend(run, 10, "continued"))
    assert (longer.number, longer.first_epoch, longer.last_epoch, longer.recipe.epochs) == (0, 0, 50, 50)


def test_a_run_is_extended_by_one_epoch_or_more():
    run = described()
    run["results"]["epochs"] = 40
    with pytest.raises(ValueError, match="`epochs` must be 1 or more.*0"):
        descriptions.extend(run, 0, "rewarmed")
