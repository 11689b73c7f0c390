import numpy as np
import pytest

from keras_siamim.data.dense_augmentation import (
    boxes_in_window,
    crop_window,
    jittered_size,
    shortest_edge_size,
    visible_objects,
)

pytestmark = pytest.mark.one_backend

# tests/verification compares recorded sizes and windows.


def test_jitter_fits_a_square_and_rounds_halves_to_even():
    assert jittered_size([10, 20], [20, 10], [0.5, 2.0], 32).tolist() == [[8, 16], [64, 32]]
    assert jittered_size(5, 10, 1.0, 5).tolist() == [2, 5]
    assert jittered_size(1, 1000, 0.1, 100).tolist() == [1, 10]


def test_windows_cover_everything_from_the_first_to_the_last_offset():
    assert crop_window(10, 6, [0.0, 0.5, 0.999], 6).tolist() == [[0, 0, 6, 6], [2, 0, 6, 6], [4, 0, 6, 6]]
    assert crop_window(4, 9, 0.5, 6).tolist() == [0, 2, 4, 6]


def test_the_longer_side_limits_the_shorter():
    assert shortest_edge_size(30, 40, 60, 100).tolist() == [60, 80]
    assert shortest_edge_size([30, 80], [80, 30], 60, 100).tolist() == [[38, 100], [100, 38]]
    assert shortest_edge_size(7, 7, 5, 9).tolist() == [5, 5]
    assert np.array_equal(shortest_edge_size(1, 1000, 64, 64), [1, 64])


def test_boxes_are_flipped_first_then_scaled_moved_and_clipped():
    boxes = [[2, 1, 5, 4], [0, 0, 10, 8], [0, 0, 1, 1]]
    found = boxes_in_window(boxes, (8, 10), False, (16, 30), (1, 3, 9, 12))
    assert found.tolist() == [[3, 1, 12, 7], [0, 0, 12, 9], [0, 0, 0, 1]]
    found = boxes_in_window(boxes, (8, 10), True, (16, 30), (1, 3, 9, 12))
    assert found.tolist() == [[12, 1, 12, 7], [0, 0, 12, 9], [12, 0, 12, 1]]
    assert visible_objects(found, most=3).tolist() == [1]
    assert boxes_in_window(np.zeros((0, 4)), (8, 10), True, (16, 30), (1, 3, 9, 12)).shape == (0, 4)


def test_of_too_many_objects_the_largest_are_kept_in_their_order():
    boxes = np.array([[0, 0, 2, 2], [0, 0, 0, 9], [0, 0, 4, 4], [0, 0, 3, 3]], "float32")
    assert visible_objects(boxes, most=9).tolist() == [0, 2, 3]
    assert visible_objects(boxes, most=2).tolist() == [2, 3]
