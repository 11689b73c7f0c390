import numpy as np
import pytest
from keras import ops

from keras_siamim.ops.masks import crop_masks, paste_masks
from keras_siamim.ops.roi_align import BOXES_AT_A_TIME, GATHERED_CELLS, axis_weights, roi_align


@pytest.mark.one_backend
def test_weights_are_the_mean_of_all_samples(rng):
    """Any number of samples per bin, against a loop over samples."""
    cells, bins = 30, 3
    for start, side in [(-4.0, 40.0), (2.3, 0.2), (0.0, 9.0), (3.1, 12.0), (20.0, 9.5), (5.0, 6.0), (1.0, 21.0)]:
        expected, count = np.zeros((bins, cells)), int(np.ceil(np.float32(side) / bins))
        for p in range(bins):
            for k in range(count):
                place = start + side / bins * (p + (k + 0.5) / count)
                if -1 <= place <= cells:
                    expected[p] += np.maximum(1 - np.abs(np.clip(place, 0, cells - 1) - np.arange(cells)), 0) / count
        found = axis_weights(np.float32(start), np.float32(side), bins, cells)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.one_backend
def test_gathered_cells_equal_whole_maps_up_to_the_limit_and_are_close_beyond(rng):
    smooth = np.sin(np.linspace(0, 3, 150))[:, None] * np.cos(np.linspace(0, 2, 150))
    features = [smooth[None, ..., None].astype("float32"), rng.normal(size=(1, 75, 75, 1)).astype("float32")]
    boxes = np.float32([[[3, 5, 60, 66], [80, 20, 149, 62], [10, 10, 150, 140], [90, 0, 150, 16]]])
    levels = np.array([[0, 1, 0, 0]])
    whole, gathered = (
        ops.convert_to_numpy(roi_align(features, (1.0, 0.5), boxes, levels, (7, 7), whole=whole))
        for whole in (True, False)
    )
    assert boxes[0, 2, 2] - boxes[0, 2, 0] > GATHERED_CELLS
    np.testing.assert_allclose(gathered[0, [0, 1, 3]], whole[0, [0, 1, 3]], atol=1e-5)
    np.testing.assert_allclose(gathered[0, 2], whole[0, 2], atol=1e-2)


def test_many_boxes_are_pooled_in_groups_like_few(rng):
    count = BOXES_AT_A_TIME + 3
    features = rng.normal(size=(2, 8, 8, 2)).astype("float32")
    corners = rng.uniform(0, 6, size=(2, count, 2))
    boxes = np.concatenate([corners, corners + 2], axis=2).astype("float32")
    many = ops.convert_to_numpy(roi_align([features], [1.0], boxes, None, (2, 2)))
    for few in (slice(0, 3), slice(count - 3, count)):
        expected = ops.convert_to_numpy(roi_align([features], [1.0], boxes[:, few], None, (2, 2)))
        np.testing.assert_allclose(many[:, few], expected, atol=1e-5)


@pytest.mark.one_backend
def test_a_mask_cut_out_and_pasted_is_the_mask():
    mask = np.zeros((1, 1, 24, 40), bool)
    mask[0, 0, 4:18, 10:31] = True
    box = np.float32([[[6, 2, 34, 22]]])
    cut = ops.convert_to_numpy(crop_masks(mask, np.array([[24, 40]]), np.array([[0]]), box, size=28))[0]
    pasted = ops.convert_to_numpy(paste_masks(cut, box[0], 24, 40))[0] >= 0.5
    assert (pasted != mask[0, 0]).mean() < 0.01
