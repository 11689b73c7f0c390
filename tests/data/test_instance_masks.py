import builtins

import numpy as np
import pytest

from keras_siamim.data import instance_masks
from keras_siamim.data.instance_masks import (
    boxes_of_masks,
    decode_mask,
    encode_mask,
    masks_in_window,
    valid_segmentation,
)

pytestmark = pytest.mark.one_backend

MASK = np.array([[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0]], "uint8")
POLYGONS = [[1.0, 0, 3, 0, 3, 2, 1, 2], [2, 2, 3, 2, 3, 3, 2, 3]]
RUNS = {"size": [3, 4], "counts": [3, 2, 1, 3, 3]}


@pytest.mark.parametrize("segmentation", [POLYGONS, RUNS, encode_mask(MASK)], ids=["polygons", "runs", "compressed"])
def test_every_kind_of_segmentation_gives_the_same_mask(segmentation):
    np.testing.assert_array_equal(decode_mask(valid_segmentation(segmentation, 3, 4), 3, 4), MASK)


def test_run_lengths_are_ready_for_json():
    assert encode_mask(MASK > 0) == encode_mask(MASK)
    assert isinstance(encode_mask(MASK)["counts"], str)
    np.testing.assert_array_equal(decode_mask(encode_mask(np.zeros((2, 3))), 2, 3), np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        (None, "no polygons"),
        ([], "no polygons"),
        ([[0, 0, 1, 1]], "a polygon of 4 numbers"),
        ([[0, 0, 1, 0, 1, 1, 2], [0, 0, 1, 1]], "a polygon of 7 numbers"),
        ([[0, 0, float("nan"), 0, 1, 1]], "far outside"),
        ([[0, 0, 8.5, 0, 1, 1]], "far outside"),
        ([[0, 0, 1, -3, 1, 1]], "far outside"),
        ([[0, 0, "1", 0, 1, 1]], "no list of numbers"),
        ([5], "no list of numbers"),
        ({"size": [4, 3], "counts": [12]}, r"the size \[4, 3\]"),
        ({"counts": [12]}, "the size None"),
        ({"size": [3, 4], "counts": [3, 2]}, "do not add up"),
        ({"size": [3, 4], "counts": [3, -2, 11]}, "do not add up"),
        ({"size": [3, 4], "counts": "zz"}, "malformed"),
        ({"size": [3, 4]}, "no run lengths"),
    ],
)
def test_invalid_segmentations_have_a_reason(segmentation, reason):
    with pytest.raises(ValueError, match=reason):
        valid_segmentation(segmentation, 3, 4)


def test_invalid_polygons_are_left_out_where_others_are_valid():
    assert valid_segmentation([[0, 0, 1, 1], *POLYGONS, [0, 0, float("inf"), 0, 1, 1]], 3, 4) == POLYGONS


@pytest.mark.parametrize("segmentation", [POLYGONS, RUNS], ids=["polygons", "runs"])
@pytest.mark.parametrize("flip", [False, True])
def test_masks_follow_flip_resizing_and_crop(segmentation, flip):
    # Twice as high, three times as wide: each pixel becomes a block.
    expected = np.kron(MASK[:, ::-1] if flip else MASK, np.ones((2, 3), "uint8"))
    found = masks_in_window([segmentation], (3, 4), flip, (6, 12), (0, 0, 6, 12))
    np.testing.assert_array_equal(found, expected[None])
    found = masks_in_window([segmentation] * 2, (3, 4), flip, (6, 12), (1, 4, 3, 7))
    np.testing.assert_array_equal(found, np.stack([expected[1:4, 4:11]] * 2))


def test_half_the_size_takes_every_second_pixel():
    mask = np.arange(48).reshape(6, 8) % 3 == 0
    found = masks_in_window([encode_mask(mask)], (6, 8), False, (3, 4), (0, 0, 3, 4))
    np.testing.assert_array_equal(found[0], mask[1::2, 1::2])


def test_boxes_enclose_their_masks():
    masks = np.zeros((3, 5, 7))
    masks[0, 1:4, 2:3] = 1
    masks[2, [0, 4], [0, 6]] = 1
    assert boxes_of_masks(masks).tolist() == [[2, 1, 3, 4], [0, 0, 0, 0], [0, 0, 7, 5]]
    assert boxes_of_masks(np.zeros((0, 5, 7))).shape == (0, 4)


def test_without_the_library_an_error_says_what_to_install(monkeypatch):
    original = builtins.__import__

    def without(name, *args):
        if name.startswith("faster_coco_eval"):
            raise ImportError(name)
        return original(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"`faster-coco-eval`.*keras-siamim\[evaluation\]"):
        instance_masks.decode_mask(RUNS, 3, 4)
