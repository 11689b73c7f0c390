import json

import numpy as np
import pytest
from PIL import Image

from keras_siamim.data.bad_images import Ledger, TooManyBadImages
from keras_siamim.data.sources.box_selection import box_sample, with_objects
from keras_siamim.data.sources.boxes import open_boxes
from keras_siamim.data.sources.coco import coco_source, ground_truth

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
        "1 of 4 boxes were clipped to their images: annotation 3",
        "1 of 4 boxes were left out, since they have no area inside their images: annotation 4",
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
        ("file_name or coco_url, height and width.*image 3 with 'sub/a.jpg', 0 and 4", changed("images", 1, height=0)),
        ("gone.png', image 5, which is missing", changed("images", 2, file_name="gone.png")),
        ("empty.png', image 5, which has 6 x 6 where 6 x 7", changed("images", 2, width=7)),
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
    with pytest.raises(ValueError, match="empty.png', image 5, which can't be read"):
        coco_source(write(folder), folder / "images")
    (folder / "bad.json").write_text("{")
    with pytest.raises(ValueError, match="must be a JSON file. Received: .*bad.json"):
        coco_source(folder / "bad.json", folder / "images")
    with pytest.raises(ValueError, match="must be a readable file. Received: .*none.json"):
        coco_source(folder / "none.json", folder / "images")


def test_a_ledger_lists_bad_images_which_are_left_out_with_their_annotations(folder):
    path = write(folder)
    (folder / "images" / "b.png").unlink()

    ledger = Ledger(folder / "bad.jsonl", limit=0.5)
    source = coco_source(path, folder / "images", ledger)

    assert source.image_ids == (3, 5)
    assert source.annotations.boxes.tolist() == [[1, 1, 3, 3]]
    assert source.notes == ("1 of 3 images were left out: image 7 is missing",)
    assert [(entry["image"], entry["reason"]) for entry in ledger.entries()] == [
        (str(folder / "images" / "b.png"), "is missing")
    ]
    truth = ground_truth(source)
    assert [image["id"] for image in truth["images"]] == [3, 5]
    assert truth["annotations"] == content()["annotations"][:1]
    with pytest.raises(TooManyBadImages, match="1 of the 3 images"):
        coco_source(path, folder / "images", Ledger(limit=0.1))
    # The same ledger still knows which image it was, and not the one that now has its index.
    assert ledger.entries(source.images) == []


def lvis_content():
    found = content()
    for image in found["images"]:
        image["coco_url"] = f"http://images.cocodataset.org/train2017/{image.pop('file_name').split('/')[-1]}"
        image |= {"neg_category_ids": [2], "not_exhaustive_category_ids": []}
    for category, frequency in zip(found["categories"], "rf", strict=True):
        category["frequency"] = frequency
    return found


def test_lvis_finds_its_images_by_their_urls(folder):
    (folder / "images" / "sub" / "a.jpg").rename(folder / "images" / "a.jpg")
    (folder / "images").rename(folder / "train2017")
    (folder / "lvis_v1_train.json").write_text(json.dumps(lvis_content()))

    source = open_boxes(folder, lvis=True)

    assert source.images.locate(1) == str(folder / "train2017" / "a.jpg")
    assert source.images_per_class.tolist() == [1, 1]
    assert ground_truth(source)["categories"][0] == {"id": 90, "name": "cat", "frequency": "r"}
    assert ground_truth(source) == lvis_content()
    with pytest.raises(ValueError, match="a folder with annotations/instances_NAME.json"):
        open_boxes(folder)
    # All images in one folder are found, too.
    assert coco_source(folder / "lvis_v1_train.json", folder / "train2017").size == 3


@pytest.mark.parametrize(
    ("message", "kind", "changes"),
    [
        ("a frequency r, c or f per category.*category 90 with 'x'", "categories", {"frequency": "x"}),
        ("a list neg_category_ids of known categories.*image 7 with \\[4\\]", "images", {"neg_category_ids": [4]}),
        ("a list not_exhaustive.*image 7 with None", "images", {"not_exhaustive_category_ids": None}),
    ],
)
def test_errors_of_lvis_name_the_entry(folder, message, kind, changes):
    found = lvis_content()
    found[kind][0] |= changes
    (folder / "lvis.json").write_text(json.dumps(found))
    with pytest.raises(ValueError, match=message):
        coco_source(folder / "lvis.json", folder / "images")


def test_training_uses_images_with_objects_that_are_no_crowds(folder):
    selected = with_objects(coco_source(write(folder), folder / "images"))

    assert selected.image_ids == (7, 3)
    assert selected.annotations.boxes.tolist() == [[10, 0, 16, 2], [1, 1, 3, 3]]
    assert selected.annotations.image_sizes.tolist() == [[8, 16], [10, 4]]
    assert selected.notes[-1] == "1 of 3 images were left out, without objects"
    assert [selected.images.locate(index).rpartition("/")[2] for index in range(2)] == ["b.png", "a.jpg"]


def test_objects_without_a_valid_mask_are_left_out_and_named(folder):
    selected = with_objects(coco_source(write(folder), folder / "images"), masks=True)

    assert selected.image_ids == (3,)
    assert selected.annotations.segmentations == (POLYGON,)
    assert selected.notes[-2].startswith("1 of 3 objects were left out, since they have no valid mask; the first, in ")
    assert selected.notes[-2].endswith("b.png, has no polygons or run lengths")
    with pytest.raises(ValueError, match="`source` must have images with objects"):
        with_objects(coco_source(write(folder, annotations=content()["annotations"][1:2]), folder / "images"))


def test_a_sample_has_some_images_with_all_their_annotations(folder):
    source = coco_source(write(folder), folder / "images")
    samples = [box_sample(source, 2, seed) for seed in range(4)]
    assert {sample.image_ids for sample in samples} <= {(7, 3), (7, 5), (3, 5)}
    assert len({sample.image_ids for sample in samples}) > 1
    for sample in samples:
        assert sample.annotations.image_sizes.tolist() == [
            list(size)
            for number, size in zip((7, 3, 5), [(8, 16), (10, 4), (6, 6)], strict=True)
            if number in sample.image_ids
        ]
        expected = [entry for entry in content()["annotations"] if entry["image_id"] in sample.image_ids]
        assert ground_truth(sample)["annotations"] == expected
        assert len(sample.annotations.boxes) == sum(entry["id"] != 4 for entry in expected)
    assert box_sample(source, 3) is source
    with pytest.raises(ValueError, match="`size` must be 1 or more"):
        box_sample(source, 0)
