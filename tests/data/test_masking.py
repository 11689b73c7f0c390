import numpy as np
import pytest

from keras_siamim.data.masking import Masking

pytestmark = pytest.mark.one_backend

MANY = np.arange(20_000)


@pytest.mark.parametrize("setting", ["paper_224", "beit_224", "small_64"])
def test_statistics_equal_the_recorded_ones(setting):
    recorded = np.load("tests/reference/blockwise_masks.npz")
    grid, count = int(recorded[f"{setting}/grid"]), int(recorded[f"{setting}/num_masked"])
    masking = Masking((grid, grid), count, min_block=int(recorded[f"{setting}/min_block"]))
    masks = masking.masks(0, 0, MANY).numpy()
    assert set(masks.sum((1, 2))) == {count}
    np.testing.assert_allclose(masks.mean(0), recorded[f"{setting}/mean_map"], atol=0.02)
    right = (masks[:, :, 1:] == masks[:, :, :-1]).mean()
    down = (masks[:, 1:] == masks[:, :-1]).mean()
    np.testing.assert_allclose(
        [right, down], [recorded[f"{setting}/p_{way}_equal"] for way in ("right", "down")], atol=0.01
    )


@pytest.mark.parametrize("mode", ["block", "random"])
@pytest.mark.parametrize(("grid", "count"), [((14, 14), 118), ((4, 6), 14), ((2, 9), 1), ((3, 2), 5), ((1, 8), 4)])
def test_counts_are_exact_on_any_grid(mode, grid, count):
    masking = Masking(grid, count, mode, min_block=2)
    masks = masking.masks(3, 1, np.arange(300)).numpy()
    assert masks.shape == (300, *grid)
    assert set(masks.sum((1, 2))) == {count}
    ids = masking.visible_ids(3, 1, np.arange(300)).numpy()
    assert ids.dtype == np.int32
    assert ids.shape == (300, masking.num_visible)
    assert (np.diff(ids, axis=1) > 0).all()
    assert not np.take_along_axis(masks.reshape(300, -1), ids, 1).any()


@pytest.mark.parametrize("mode", ["block", "random"])
def test_a_mask_depends_on_seed_epoch_and_image_alone(mode):
    masking = Masking((8, 8), 38, mode, min_block=4)
    masks = masking.masks(5, 2, np.arange(64)).numpy()
    np.testing.assert_array_equal(masking.masks(5, 2, [40, 3]).numpy(), masks[[40, 3]])
    for seed, epoch in [(6, 2), (5, 3), (-5, 2), (2, 5)]:
        assert (masking.masks(seed, epoch, np.arange(64)).numpy() != masks).any((1, 2)).all()


def test_random_masks_hide_every_patch_equally_often():
    masks = Masking((4, 6), 18, "random").masks(0, 0, MANY).numpy()
    np.testing.assert_allclose(masks.mean(0), 0.75, atol=0.015)
    # Without replacement, a neighbor of a masked patch is masked in 17 of 23 cases, wherever it is.
    both = (masks[:, :, 1:] & masks[:, :, :-1]).mean((0, 2))
    np.testing.assert_allclose(both, 0.75 * 17 / 23, atol=0.015)


def test_the_ratio_of_the_paper_hides_118_of_196():
    assert Masking.of_ratio((14, 14), 0.6).num_masked == 118
    assert Masking.of_ratio((14, 14), 0.75, "random").num_visible == 49


@pytest.mark.parametrize("count", [0, -1, 24, 25])
def test_a_count_outside_the_grid_is_refused(count):
    with pytest.raises(ValueError, match=rf"`num_masked` must be in \[1, 23\] .*Received: {count}"):
        Masking((4, 6), count)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "blocks"}, "`mode` must be"),
        ({"min_block": 0}, "`min_block` must be"),
        ({"min_block": 25}, "`min_block` must be"),
    ],
)
def test_unknown_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Masking((4, 6), 10, **arguments)
    with pytest.raises(ValueError, match="`grid` must be a whole number, 1 or more. Received: -4"):
        Masking((-4, -6), 10)


@pytest.mark.parametrize("ratio", [0, 1, 1.5])
def test_a_ratio_outside_0_to_1_is_refused(ratio):
    with pytest.raises(ValueError, match="`mask_ratio` must be in \\(0, 1\\)"):
        Masking.of_ratio((4, 6), ratio)


def test_the_mode_none_hides_nothing():
    masking = Masking.of_ratio((2, 3), 0.6, mode="none")
    np.testing.assert_array_equal(masking.visible_ids(0, 0, [3, 4]).numpy(), [range(6), range(6)])
    with pytest.raises(ValueError, match="`num_masked` must be 0 in the mode 'none'. Received: 2"):
        Masking((2, 3), 2, mode="none")
