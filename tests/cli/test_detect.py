"""`keras-siamim detect` with a toy ViT, on images with one square each, whose color is its class."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_siamim import ViTEncoder
from keras_siamim.cli import detect
from keras_siamim.cli.detection_report import deviations
from keras_siamim.data.bad_images import Ledger
from keras_siamim.detection import DetectorSettings, image_masks
from keras_siamim.detection.recipes import RECIPES, coco, scaled_to, small
from keras_siamim.export.detector import detection_difference
from tests.cli.interrupted import check_interruption

# PyTorch compiles nothing.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.one_backend("torch"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

STEPS = 4
TINY = DetectorSettings(
    anchor_sizes=(4, 8, 16, 32, 64),
    anchors_sampled=16,
    pre_nms_train=20,
    pre_nms_test=20,
    post_nms_train=10,
    post_nms_test=10,
    regions_sampled=8,
    canonical_size=7,
    score_threshold=0.0,
    detections=4,
    pyramid_width=8,
    head_width=8,
    dense_width=16,
)


def write_squares(folder, split, count, categories=("red", "green")):
    """Write images of 24 x 32 pixels, each with one square as a polygon, in the layout of COCO."""
    random = np.random.default_rng(len(split))
    images, annotations = [], []
    (folder / split).mkdir(parents=True)
    for number in range(1, count + 1):
        side = int(random.integers(8, 14))
        x, y = int(random.integers(0, 32 - side)), int(random.integers(0, 24 - side))
        pixels = np.zeros((24, 32, 3), "uint8")
        pixels[y : y + side, x : x + side, number % 2] = 255
        Image.fromarray(pixels).save(folder / split / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 24, "width": 32})
        corners = [x, y, x + side, y, x + side, y + side, x, y + side]
        box = {"bbox": [x, y, side, side], "segmentation": [corners], "area": side**2, "iscrowd": 0}
        annotations.append({"id": number, "image_id": number, "category_id": 1 + number % 2, **box})
    (folder / "annotations").mkdir(exist_ok=True)
    named = [{"id": number, "name": name} for number, name in enumerate(categories, start=1)]
    content = {"images": images, "annotations": annotations, "categories": named}
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for split, count in (("train", 8), ("val", 2), ("test", 3)):
        write_squares(folder, split, count)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("run") / "toy.keras"
    ViTEncoder(image_size=16, patch_size=8, width=8, depth=2, num_heads=2).save(path)
    return path


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(RECIPES, "small", lambda: dataclasses.replace(small(), image_size=32, detector=TINY))
        yield


@pytest.fixture(scope="module")
def arguments(data, encoder):
    numbers = ["--steps", str(STEPS), "--validations", "2", "--batch-size", "2", "--window-size", "2"]
    return ["--encoder", str(encoder), "--data", str(data), "--masks", "--recipe", "small", *numbers]


@pytest.fixture(scope="module")
def finished(arguments, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    assert detect.main([*arguments, "--run", str(folder), "--export", str(folder / "exported")]) == 0
    return folder


def test_a_run_ends_with_detections_tables_a_figure_and_an_export(finished):
    (result,) = json.loads((finished / "evaluation.json").read_text())["rows"]["toy"]
    assert result["protocol"] == "vitdet"
    assert {"box AP", "box AP50", "box AP_small", "mask AP", "mask AP75"} <= set(result["numbers"])
    assert result["notes"][0] == "steps is 4, 184375 in the method."

    detections = json.loads((finished / "detections.json").read_text())
    assert {detection["image_id"] for detection in detections} == {1, 2, 3}
    assert {detection["category_id"] for detection in detections} <= {1, 2}
    assert all(detection["segmentation"]["size"] == [24, 32] for detection in detections)

    lines = (finished / "precision.md").read_text().splitlines()
    assert lines[0] == "| | box | mask |"
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["| AP of red", "| AP of green"]
    assert (finished / "validation.csv").read_text().splitlines()[0] == "step,box AP,box AP50,mask AP,mask AP50"
    with Image.open(finished / "detections.png") as figure:
        assert figure.width > 4 * 360
    assert (finished / "exported" / finished.name / "1" / "saved_model.pb").is_file()


def test_the_exported_file_detects_in_images_of_any_size(finished, rng):
    loaded = tf.saved_model.load(str(finished / "exported" / finished.name / "1"))
    images = rng.integers(0, 256, (2, 40, 24, 3)).astype("uint8")

    found = {name: value.numpy() for name, value in loaded.signatures["serving_default"](images=images).items()}
    pasted = loaded.signatures["image_masks"](images=images)["masks"].numpy()

    assert found["boxes"].shape == (2, 4, 4)
    assert (found["boxes"] <= [24, 40, 24, 40]).all()
    assert pasted.shape == (2, 4, 40, 24)
    for image in range(2):
        kept = slice(int(found["counts"][image]))
        expected = image_masks(found["masks"][image, kept], found["boxes"][image, kept], 40, 24)
        np.testing.assert_array_equal(pasted[image, kept], expected)

    thresholds = np.array([0, 1], "float32")
    some = loaded.signatures["with_threshold"](images=images, score_threshold=thresholds)
    assert some["counts"].numpy()[1] == 0 < some["counts"].numpy()[0]


def test_the_difference_of_detections_does_not_depend_on_their_order():
    one = {"boxes": np.eye(3, 4), "scores": np.array([0.5, 0.4, 0.3]), "classes": np.array([0, 1, -1])}
    other = {name: value[::-1] for name, value in one.items()}
    assert detection_difference(one, other, (8, 8)) == 0
    assert detection_difference(one, {**one, "boxes": 2 * np.eye(3, 4)}, (8, 4)) == 1 / 8
    assert detection_difference(one, {**one, "classes": np.array([0, 0, -1])}, (8, 8)) == np.inf


def test_an_interrupted_run_continues_exactly(arguments, finished, tmp_path, monkeypatch, capsys):
    check_interruption("detect", arguments, finished, tmp_path, 1, "detector.keras", monkeypatch, capsys)


@pytest.mark.parametrize(("options", "message"), [
    (["--steps", "7"], "`--steps` must be a multiple of `--validations`. Received: 7 and 2"),
    (["--scale", "2", "1"], "`--scale` must be LOW HIGH with LOW <= HIGH. Received: [2.0, 1.0]"),
    (["--image-size", "0"], "argument --image-size: must be a whole number, 1 or more"),
    (["--train-split", "extra"], "`split` must be one of"),
    (["--lvis"], "`data` must be a data set of TFDS, or a folder with annotations/lvis_v1_NAME.json"),
])  # fmt: skip
def test_bad_options_are_refused_before_anything_is_written(arguments, options, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        detect.main([*arguments, "--run", str(tmp_path / "new"), *options])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_splits_with_other_categories_are_refused(encoder, tmp_path, capsys):
    write_squares(tmp_path, "train", 2)
    write_squares(tmp_path, "test", 2, categories=("green", "red"))
    with pytest.raises(SystemExit):
        detect.main(["--encoder", str(encoder), "--data", str(tmp_path), "--recipe", "small", "--val-split", ""])
    assert "`--data` must have the same categories in each split" in capsys.readouterr().err


def test_bad_images_of_a_folder_are_listed_and_left_out_up_to_the_limit(tmp_path, capsys):
    for split in ("train", "test"):
        write_squares(tmp_path, split, 3)
    (tmp_path / "train" / "2.png").unlink()
    arguments = ["--encoder", "any", "--data", str(tmp_path), "--val-split", ""]
    ledger = Ledger(tmp_path / "bad_images.jsonl", limit=0.5)
    assert [source.size for source in detect.open_splits(detect.build_parser().parse_args(arguments), ledger)] == [2, 3]
    assert [entry["image"] for entry in ledger.entries()] == [str(tmp_path / "train" / "2.png")]
    with pytest.raises(SystemExit):
        detect.main([*arguments, "--run", str(tmp_path / "run")])
    assert "1 of the 3 images of" in capsys.readouterr().err


def test_an_image_size_that_does_not_fit_the_patches_is_refused(arguments, tmp_path, capsys):
    assert detect.main([*arguments, "--run", str(tmp_path), "--image-size", "20"]) == 1
    assert "`image_size` must be" in capsys.readouterr().err


def test_anchors_and_the_canonical_size_scale_with_the_images():
    recipe = scaled_to(coco(), 512)
    assert recipe.detector.anchor_sizes == (16, 32, 64, 128, 256)
    assert recipe.detector.canonical_size == 112


def test_results_name_only_the_settings_that_deviate_from_the_method(arguments):
    options = detect.build_parser().parse_args(["--encoder", "x", "--data", "y", "--batch-size", "8"])
    recipe = detect.choose_recipe(options)
    assert deviations(options, recipe) == ("batch_size is 8, 64 in the method.",)
