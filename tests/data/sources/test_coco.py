import json

import numpy as np
import pytest
from PIL import Image

from keras_siamim.data.sources.boxes import open_boxes
from keras_siamim.data.sources.coco import coco_source

pytestmark = pytest.mark.one_backend

POLYGON = [[1.0, 1.0, 3.0, 1.0, 3.0, 3.0]]


def content(**changes):
    return {
        "images": [
            {"id": 7, "file_name": "b.png", "height": 8, "width": 16},
            {"id": 3, "file_name": "sub/a.jpg", "height": 10, "width": 4},
            {"id": 5, "file_name": "empty.png", "height": 6, "width": 6},
        ],
        "categories": [{"id": 90, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 90, "bbox": [1, 1, 2, 2], "area": 2.5, "segmentation": POLYGON},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0.5, 0, 4, 2], "iscrowd": 1, "area": 8},
            {"id": 3, "image_id": 7, "category_id": 2, "bbox": [10, 0, 20, 2], "area": 40},
            {"id": 4, "image_id": 7, "category_id": 2, "bbox": [3, 3, 0, 2], "area": 0},
        ],
        **changes,
    }


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for entry in content()["images"]:
        pixels = np.full((entry["height"], entry["width"], 3), entry["id"], "uint8")
        Image.fromarray(pixels).save(tmp_path / "images" / entry["file_name"])
    return tmp_path


def write(folder, name="instances.json", **changes):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content(**changes)))
    return path


def test_a_file_of_annotations_and_its_images_are_read(folder):
    source = coco_source(write(folder), folder / "images")

    found = source.annotations
    assert (source.size, source.image_ids) == (3, (7, 3, 5))
    assert (source.class_names, source.category_ids) == (("dog", "cat"), (2, 90))
    assert found.boxes.tolist() == [[0.5, 0, 4.5, 2], [10, 0, 16, 2], [1, 1, 3, 3]]
    assert found.labels.tolist() == [0, 0, 1]
    assert found.image_index.tolist() == [0, 0, 1]
    assert found.crowd.tolist() == [True, False, False]
    assert found.areas.tolist() == [8, 40, 2.5]
    assert found.segmentations == (None, None, POLYGON)
    assert source.notes == (
        "1 of 4 boxes were clipped to their images",
        "1 of 4 boxes were left out, since they have no area inside their images",
    )
    assert source.images.locate(1) == str(folder / "images" / "sub" / "a.jpg")


def test_folders_in_the_layout_of_coco_are_opened_by_split(folder):
    write(folder, "annotations/instances_val2017.json")
    (folder / "images").rename(folder / "val2017")

    assert open_boxes(folder, "test").size == 3
    with pytest.raises(ValueError, match="`split` must be one of val in .* Received: 'train'"):
        open_boxes(folder, "train")
    (folder / "val2017").rename(folder / "elsewhere")
    with pytest.raises(ValueError, match="must have the images of .*instances_val2017.json.* no such folder"):
        open_boxes(folder, "val")


def test_a_folder_with_one_file_of_annotations_is_the_train_split(folder):
    write(folder)
    assert open_boxes(str(folder)).class_names == ("dog", "cat")
    with pytest.raises(ValueError, match="`data` must be a data set of TFDS, or a folder with annotations"):
        open_boxes(folder / "images")


def changed(key, position, **changes):
    entries = content()[key]
    entries[position] = {**entries[position], **changes}
    return {key: entries}


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("instances.json', annotation 2 with 1\\.", changed("annotations", 1, category_id=1)),
        ("an image in `images` per annotation.*annotation 1 with 4\\.", changed("annotations", 0, image_id=4)),
        ("a bbox of four finite numbers.*annotation 3 with \\[1, 2, 3\\]", changed("annotations", 2, bbox=[1, 2, 3])),
        ("a bbox of four finite numbers.*annotation 3 with None", changed("annotations", 2, bbox=None)),
        ("a bbox of four finite numbers.*annotation 3", changed("annotations", 2, bbox=[1, 2, 3, float("nan")])),
        ("unique ids. Received: .*instances.json', annotation 1 twice", changed("annotations", 1, id=1)),
        ("unique ids.*image 7 twice", changed("images", 1, id=7)),
        ("unique ids.*category 2 twice", changed("categories", 0, id=2)),
        ("an integer id per image.*with 'x' for image 1", changed("images", 1, id="x")),
        ("file_name, height and width.*image 3 with 'sub/a.jpg', 0 and 4", changed("images", 1, height=0)),
        ("images' without 'gone.png', image 5", changed("images", 2, file_name="gone.png")),
        ("empty.png', which has 6 x 6 where 6 x 7", changed("images", 2, width=7)),
        ("must have a list 'categories'", {"categories": None}),
        ("must have categories. Received", {"categories": []}),
        ("must have images. Received", {"images": []}),
    ],
)
def test_errors_name_the_file_and_the_entry(folder, message, changes):
    with pytest.raises(ValueError, match=message):
        coco_source(write(folder, **changes), folder / "images")


def test_files_that_are_no_annotations_are_refused(folder):
    (folder / "images" / "empty.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="empty.png', which can't be read"):
        coco_source(write(folder), folder / "images")
    (folder / "bad.json").write_text("{")
    with pytest.raises(ValueError, match="must be a JSON file. Received: .*bad.json"):
        coco_source(folder / "bad.json", folder / "images")
    with pytest.raises(ValueError, match="must be a readable file. Received: .*none.json"):
        coco_source(folder / "none.json", folder / "images")
