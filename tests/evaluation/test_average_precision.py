import json

import numpy as np
import pytest

from keras_siamim.evaluation.average_precision import average_precision, image_detections, write_detections

pytestmark = pytest.mark.one_backend

# tests/verification compares recorded numbers of COCO's and LVIS's own programs.

BOXES = [[10, 10, 40, 40], [50, 20, 70, 30], [0, 60, 100, 180]]  # large enough for no size but small, small, large
IMAGES = [{"id": 4, "height": 200, "width": 200}, {"id": 9, "height": 200, "width": 200}]
CATEGORIES = [{"id": 3, "name": "ant"}, {"id": 8, "name": "bee"}]


def truth(**changes):
    annotations = [
        {"id": 1, "image_id": 4, "category_id": 3, "bbox": [10, 10, 30, 30]},
        {"id": 2, "image_id": 4, "category_id": 8, "bbox": [50, 20, 20, 10]},
        {"id": 3, "image_id": 9, "category_id": 3, "bbox": [0, 60, 100, 120]},
    ]
    for annotation in annotations:
        x, y, width, height = annotation["bbox"]
        mask = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        annotation |= {"segmentation": mask, "area": width * height, "iscrowd": 0}
    return {"images": IMAGES, "annotations": annotations, "categories": CATEGORIES, **changes}


def rectangle(box):
    mask = np.zeros((200, 200), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def found():
    first = image_detections(4, BOXES[:2], [0.9, 0.8], [0, 1], [3, 8], np.array(list(map(rectangle, BOXES[:2]))))
    return first + image_detections(9, BOXES[2:], [0.7], [0], [3], rectangle(BOXES[2])[None])


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_perfect_detections_have_precision_one_in_every_size_that_occurs(kind):
    given, detections = truth(), found()
    copies = json.dumps([given, detections])

    result = average_precision(given, detections, kind)

    assert result.kind == kind
    expected = {"AP": 1, "AP50": 1, "AP75": 1, "AP_small": 1, "AP_medium": -1, "AP_large": 1, "AR1": 1, "AR100": 1}
    assert {key: pytest.approx(value) for key, value in expected.items()} == {k: result.numbers[k] for k in expected}
    assert result.by_category == pytest.approx({3: 1, 8: 1})
    assert json.dumps([given, detections]) == copies


def test_missed_and_false_detections_cost_precision():
    detections = found()
    assert average_precision(truth(), []).numbers["AP"] == 0
    # The only bee is missed, and one ant of two.
    result = average_precision(truth(), detections[:1])
    assert result.by_category == pytest.approx({3: 51 / 101, 8: 0})
    # A false ant before the two true ones halves the precision of the first and makes the other's 2 / 3.
    false = image_detections(9, [[150, 0, 190, 40]], [1.0], [0], [3])
    assert average_precision(truth(), detections + false).by_category[3] == pytest.approx(2 / 3)
    # 28 of 30 pixels are above the IoU of 0.9.
    moved = image_detections(4, [[10, 10, 38, 40]], [0.9], [0], [3])
    result = average_precision(truth(annotations=truth()["annotations"][:1]), moved)
    assert result.numbers["AP"] == pytest.approx(0.9)
    assert result.by_category[8] == -1


def test_a_crowd_may_match_many_detections_and_none():
    annotations = truth()["annotations"]
    annotations[2] |= {"iscrowd": 1}
    inside = image_detections(9, [[10, 70, 30, 90], [40, 70, 60, 90]], [1.0, 1.0], [0, 0], [3])
    assert average_precision(truth(annotations=annotations), found()[:2] + inside).numbers["AP"] == pytest.approx(1)


def lvis_truth():
    images = [
        {**IMAGES[0], "neg_category_ids": [], "not_exhaustive_category_ids": []},
        {**IMAGES[1], "neg_category_ids": [], "not_exhaustive_category_ids": [3]},
    ]
    categories = [{**category, "frequency": letter} for category, letter in zip(CATEGORIES, "rf", strict=True)]
    return truth(images=images, categories=categories)


def test_lvis_ignores_classes_without_a_verdict_and_reports_frequencies():
    unlabeled = image_detections(9, [[0, 0, 9, 9]], [1.0], [1], [3, 8])  # no verdict on bees in image 9
    not_exhaustive = image_detections(9, [[150, 0, 190, 40]], [1.0], [0], [3])
    result = average_precision(lvis_truth(), found() + unlabeled + not_exhaustive, lvis=True)
    expected = {"AP": 1, "AP_rare": 1, "AP_common": -1, "AP_frequent": 1, "AR300": 1, "AP_large": 1}
    assert {key: pytest.approx(value) for key, value in expected.items()} == {k: result.numbers[k] for k in expected}
    negative = lvis_truth()
    negative["images"][1]["neg_category_ids"] = [8]
    result = average_precision(negative, found() + unlabeled, lvis=True)
    assert result.numbers["AP_frequent"] == pytest.approx(0.5)


def test_lvis_counts_300_detections_of_an_image_over_all_classes():
    many = image_detections(4, [[0, 0, 5, 5]] * 300, [0.85] * 300, [0] * 300, [3])
    result = average_precision(lvis_truth(), found() + many, lvis=True)
    assert result.by_category == pytest.approx({3: result.by_category[3], 8: 0})  # the bee is number 302
    with pytest.raises(ValueError, match="`truth` must have a frequency per category"):
        average_precision(truth(), found(), lvis=True)


def test_invalid_detections_are_refused():
    for changes, message in (
        ({"image_id": 5}, "ids of `truth`. Received: image_id 5"),
        ({"category_id": 1}, "ids of `truth`. Received: category_id 1"),
    ):
        with pytest.raises(ValueError, match=message):
            average_precision(truth(), [{**found()[0], **changes}])
    with pytest.raises(ValueError, match="one without segmentation"):
        average_precision(truth(), image_detections(4, BOXES[:1], [0.5], [0], [3]), "segm")
    broken = truth()
    broken["annotations"][1]["segmentation"] = [[0, 0, float("nan"), 0, 5, 5]]
    with pytest.raises(ValueError, match="annotation 2 with a polygon far outside its image"):
        average_precision(broken, found(), "segm")
    with pytest.raises(ValueError, match="`kind` must be 'bbox' or 'segm'"):
        average_precision(truth(), [], "keypoints")


def test_detections_survive_their_file(tmp_path):
    path = tmp_path / "detections.json"
    write_detections(path, found())
    assert json.loads(path.read_bytes()) == found()
    assert average_precision(truth(), json.loads(path.read_bytes()), "segm").numbers["AP"] == pytest.approx(1)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(TypeError):
        write_detections(path, [{"score": object()}])
    assert json.loads(path.read_bytes()) == found()
