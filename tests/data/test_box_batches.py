import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.box_batches import box_batches
from keras_siamim.data.images import preprocessing
from keras_siamim.data.sources.boxes import open_boxes

pytestmark = pytest.mark.one_backend

SIZES = [(8, 16), (10, 4), (6, 6)]


@pytest.fixture
def folder(tmp_path, rng):
    (tmp_path / "images").mkdir()
    for number, size in enumerate(SIZES):
        Image.fromarray(rng.integers(0, 256, (*size, 3)).astype("uint8")).save(tmp_path / f"images/{number}.png")
    images = [{"id": k, "file_name": f"{k}.png", "height": size[0], "width": size[1]} for k, size in enumerate(SIZES)]
    boxes = [(0, [4, 2, 8, 4]), (2, [0, 0, 6, 3]), (0, [0, 0, 16, 8])]
    annotations = [{"id": k, "image_id": i, "category_id": 1, "bbox": box} for k, (i, box) in enumerate(boxes)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return tmp_path


def test_images_are_squashed_with_their_boxes(folder):
    source = open_boxes(folder)

    batches = list(box_batches(source, (12, 8), batch_size=2).as_numpy_iterator())

    assert [len(batch["view_1"]) for batch in batches] == [2, 1]
    whole = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    assert whole["boxes"].tolist() == [
        [[2, 3, 6, 9], [0, 0, 8, 12]],
        [[0, 0, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 8, 6], [0, 0, 0, 0]],
    ]
    assert whole["box_labels"].tolist() == [[0, 0], [-1, -1], [0, -1]]
    assert whole["position"].tolist() == [0, 1, 2]
    for number in range(3):
        pixels = np.asarray(Image.open(folder / f"images/{number}.png"))
        expected = preprocessing.normalize(preprocessing.resize(tf.constant(pixels[None]), (12, 8)))[0]
        np.testing.assert_array_equal(whole["view_1"][number], expected)


def test_an_unreadable_image_is_named_or_left_out(folder):
    source = open_boxes(folder)
    content = (folder / "images/1.png").read_bytes()
    (folder / "images/1.png").write_bytes(content[:60])

    with pytest.raises(ValueError, match=r"1\.png"), Ledger(limit=0).short_errors() as ledger:
        list(box_batches(source, 8, 2, ledger))
    batches = list(box_batches(source, 8, 3, Ledger(limit=0.5)).as_numpy_iterator())
    assert [batch["position"].tolist() for batch in batches] == [[0, 2]]
    assert batches[0]["boxes"][1, 0].tolist() == [0, 0, 8, 4]


@pytest.mark.parametrize(("size", "batch"), [(0, 2), ((8, 0), 2), (8, 0)])
def test_sizes_below_one_are_refused(folder, size, batch):
    with pytest.raises(ValueError, match="must be a whole number, 1 or more"):
        box_batches(open_boxes(folder), size, batch)
