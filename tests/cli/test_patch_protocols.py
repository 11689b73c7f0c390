"""Protocols of `evaluate` on patch tokens, on folders of image files with a toy ViT."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_siamim import ViTEncoder
from keras_siamim.cli import evaluate
from tests.evaluation.stand_in import write_images, write_label_maps

pytestmark = [
    *(pytest.mark.slow, pytest.mark.one_backend, pytest.mark.filterwarnings("ignore::DeprecationWarning")),
    pytest.mark.usefixtures("batches_in_memory"),
]

ROWS = ["raw patches", "random initialization", "encoder"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("run") / "encoder.keras"
    ViTEncoder(image_size=16, patch_size=4, width=8, depth=1, num_heads=2).save(path)
    return path


def run(encoder, data, protocols, output, *others):
    options = ["--encoder", str(encoder), "--data", str(data), "--protocols", protocols, "--batch-size", "16", *others]
    evaluate.main([*options, "--cache", str(output / "cache"), "--output", str(output)])
    return json.loads((output / "evaluation.json").read_text())["rows"]


@pytest.mark.slow
def test_labeled_images(encoder, tmp_path, capsys):
    write_images(tmp_path / "data", train=(60, 1), test=(12, 2))

    rows = run(encoder, tmp_path / "data", "knn,attentive,long_tail", tmp_path)

    assert list(rows) == ["raw pixels", "random initialization", "encoder", "raw patches"]
    assert [result["protocol"] for result in rows["encoder"]] == ["knn", "attentive_probe", "long_tailed_probe"]
    assert [result["protocol"] for result in rows["raw patches"]] == ["attentive_probe", "long_tailed_probe"]
    assert "| attentive | long-tailed linear | long-tailed k-NN |" in capsys.readouterr().out


def test_images_with_boxes(encoder, tmp_path, capsys):
    """Each image is a bright square on a dark ground."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 6)):
        (tmp_path / "data" / split).mkdir(parents=True)
        (tmp_path / "data" / "annotations").mkdir(exist_ok=True)
        content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "square"}]}
        for number in range(count):
            left, top = rng.integers(0, 9, 2)
            pixels = rng.integers(0, 40, (16, 16, 3))
            pixels[top : top + 8, left : left + 8] += 180
            Image.fromarray(pixels.astype("uint8")).save(tmp_path / "data" / split / f"{number}.png")
            content["images"].append({"id": number, "file_name": f"{number}.png", "height": 16, "width": 16})
            box = {"id": number, "image_id": number, "category_id": 1, "bbox": [int(left), int(top), 8, 8], "area": 64}
            content["annotations"].append(box)
        (tmp_path / "data" / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))

    rows = run(encoder, tmp_path / "data", "localization,corloc", tmp_path)

    assert list(rows) == ROWS
    assert [result["protocol"] for result in rows["encoder"]] == ["box_localization", "object_discovery"]
    assert [result["protocol"] for result in rows["raw patches"]] == ["box_localization"]
    (localization,) = rows["raw patches"]
    assert localization["numbers"]["mean_iou"] > localization["numbers"]["constant_mean_iou"]
    assert "CorLoc of the image" in capsys.readouterr().out


def test_object_discovery_refuses_encoders_without_keys(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Reshape((4, 48))])
    model.save(tmp_path / "other.keras")
    options = ["--encoder", str(tmp_path / "other.keras"), "--data", str(tmp_path), "--protocols", "corloc"]
    with pytest.raises(ValueError, match="`--encoder` must be a ViTEncoder for corloc, which needs the keys"):
        evaluate.main([*options, "--image-size", "8", "--output", str(tmp_path / "out")])


@pytest.mark.slow
def test_images_with_label_maps(encoder, tmp_path, capsys):
    write_label_maps(tmp_path / "data", train=12, val=4)
    (tmp_path / "data" / "classes.txt").write_text("dark\nbright\n")

    protocols = "segmentation_knn,segmentation_logistic,segmentation_linear"
    rows = run(encoder, tmp_path / "data", protocols, tmp_path, "--steps", "20", "--crop-size", "8")

    assert list(rows) == ROWS
    for results in rows.values():
        assert [result["protocol"].removesuffix("_segmentation") for result in results] == ["knn", "logistic", "linear"]
    assert min(result["numbers"]["miou"] for result in rows["raw patches"][:2]) > 0.7
    assert "iou bright" in rows["encoder"][0]["numbers"]
    assert rows["encoder"][2]["settings"]["short_side"] == 8
    assert "| mIoU (knn) | mIoU (logistic) | mIoU (linear) |" in capsys.readouterr().out
