"""`keras-siamim segment` with a toy ViT, on images whose bright half is one class."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_siamim import ViTEncoder
from keras_siamim.cli import segment, segmentation_run
from tests.cli.interrupted import check_interruption
from tests.evaluation.stand_in import write_label_maps

pytestmark = [pytest.mark.slow, pytest.mark.one_backend, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

STEPS = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_label_maps(folder, train=8, val=2, test=3)
    (folder / "classes.txt").write_text("dark\nbright\n")
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("run") / "toy.keras"
    ViTEncoder(image_size=16, patch_size=8, width=8, depth=4, num_heads=2).save(path)
    return path


@pytest.fixture(scope="module")
def arguments(data, encoder):
    sizes = ["--crop-size", "16", "--steps", str(STEPS), "--validations", "2", "--batch-size", "2"]
    return ["--encoder", str(encoder), "--data", str(data), *sizes, "--learning-rate", "1e-2"]


@pytest.fixture(scope="module")
def finished(arguments, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    assert segment.main([*arguments, "--run", str(folder), "--export", str(folder / "exported")]) == 0
    return folder


@pytest.mark.slow
def test_a_run_ends_with_tables_a_figure_and_an_export(finished):
    (result,) = json.loads((finished / "evaluation.json").read_text())["rows"]["toy"]
    numbers = result["numbers"]

    assert result["protocol"] == "upernet"
    assert numbers["miou"] == pytest.approx((numbers["iou dark"] + numbers["iou bright"]) / 2)
    assert result["notes"][0] == "steps is 6, 160000 in the method."
    lines = (finished / "classes.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| dark", "| bright", "| mean"]
    assert [row.split(",")[0] for row in (finished / "validation.csv").read_text().splitlines()] == ["step", "3"]
    with Image.open(finished / "segmentations.png") as figure:
        assert figure.height > 3 * 192
    assert (finished / "exported" / finished.name / "1" / "saved_model.pb").is_file()


@pytest.mark.slow
def test_an_interrupted_run_continues_exactly(arguments, finished, tmp_path, monkeypatch, capsys):
    check_interruption("segment", arguments, finished, tmp_path, 2, "segmenter.keras", monkeypatch, capsys)


def test_a_frozen_encoder_keeps_its_weights(arguments, encoder, rng):
    options = segment.build_parser().parse_args([*arguments, "--frozen"])
    model = segmentation_run.build_segmenter(keras.saving.load_model(encoder), 2, options)
    model.run_eagerly = True
    before = model.backbone.get_weights(), model.head.get_weights()

    images = rng.normal(size=(2, 16, 16, 3)).astype("float32")
    for _ in range(2):  # the first step learns at almost 0
        model.train_on_batch(images, np.zeros((2, 16, 16), "uint8"))

    for one, other in zip(before[0], model.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(not np.array_equal(*pair) for pair in zip(before[1], model.head.get_weights(), strict=True))


@pytest.mark.parametrize(("options", "message"), [
    (["--steps", "7"], "`--steps` must be a multiple of `--validations`. Received: 7 and 2"),
    (["--crop-size", "0"], "argument --crop-size: must be a whole number, 1 or more"),
    (["--learning-rate", "-1"], "argument --learning-rate: must be a number in (0, inf)"),
    (["--classes", "5"], "`num_classes` must be the number of names in classes.txt, 2"),
    (["--train-split", "extra"], "`split` must be one of"),
    (["--encoder", ""], "argument --encoder: must not be empty"),
])  # fmt: skip
def test_bad_options_are_refused_before_anything_is_written(arguments, options, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        segment.main([*arguments, "--run", str(tmp_path / "new"), *options])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_run_is_not_resumed_with_other_settings(arguments, finished, capsys):
    assert segment.main([*arguments, "--run", str(finished), "--seed", "1"]) == 1
    assert "with the same settings" in capsys.readouterr().err


def test_a_crop_that_does_not_fit_the_patches_is_refused(arguments, tmp_path, capsys):
    assert segment.main([*arguments, "--run", str(tmp_path), "--crop-size", "20"]) == 1
    assert "`crop_size` must be multiples of the encoder's patch size, 8" in capsys.readouterr().err
