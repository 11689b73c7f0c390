import numpy as np
import pytest
from keras import ops

from keras_siamim.ops import (
    interpolate_positions,
    relative_position_embedding,
    relative_positions,
    sincos_position_table,
)

IDENTITY = np.array([[0, 0, 1, 1]], dtype="float32")


def test_rows_first_encodes_the_row_in_the_first_half():
    table = sincos_position_table((3, 4), 16).reshape(3, 4, 16)
    assert np.ptp(table[..., :8], axis=1).max() == 0
    assert np.ptp(table[..., 8:], axis=0).max() == 0
    other = sincos_position_table((3, 4), 16, "columns_first").reshape(3, 4, 16)
    np.testing.assert_array_equal(other, np.roll(table, 8, axis=-1))


def test_identity_gives_the_absolute_embedding_and_no_scale():
    grid = (4, 6)
    embedding = ops.convert_to_numpy(relative_position_embedding(IDENTITY, grid, grid, 16))[0]
    np.testing.assert_allclose(embedding[:, :16], sincos_position_table(grid, 16), atol=1e-5)
    np.testing.assert_allclose(embedding[:, 16:], np.tile([0, 0, 0, 0, 1, 1, 1, 1], (24, 2)), atol=1e-5)


def test_without_scale_the_scale_chunks_are_left_out():
    affine = np.array([[0.1, 0.2, 0.5, -0.7]], dtype="float32")
    full, plain = (
        ops.convert_to_numpy(relative_position_embedding(affine, (4, 4), (4, 4), 16, s)) for s in (True, False)
    )
    np.testing.assert_array_equal(full[..., :16], plain)


def test_a_flip_runs_through_the_columns_backwards():
    _, x, _, width = relative_positions(np.array([[0, 1, 1, -1]], dtype="float32"), (3, 5), (3, 5))
    np.testing.assert_allclose(ops.convert_to_numpy(x)[0], [4, 3, 2, 1, 0], atol=1e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(width), 1)


def test_a_coarser_view_2_keeps_its_position_and_has_larger_patches():
    y, x, height, width = (ops.convert_to_numpy(v) for v in relative_positions(IDENTITY, (8, 8), (4, 2)))
    np.testing.assert_allclose(y[0], [0.5, 2.5, 4.5, 6.5])
    np.testing.assert_allclose(x[0], [1.5, 5.5])
    np.testing.assert_allclose([height[0], width[0]], [2, 4])


def test_interpolation_keeps_leading_tokens_and_is_identity_on_the_same_grid(rng):
    table = rng.normal(size=(1 + 12, 5))
    np.testing.assert_allclose(interpolate_positions(table, (3, 4), (3, 4)), table, atol=1e-6)
    resized = interpolate_positions(table, (3, 4), (6, 2))
    assert resized.shape == (13, 5)
    np.testing.assert_allclose(resized[0], table[0], atol=1e-6)


def test_invalid_sizes_are_rejected():
    with pytest.raises(ValueError, match="multiple of 4.*Received: 18"):
        sincos_position_table((2, 2), 18)
    with pytest.raises(ValueError, match="axis_order.*'diagonal'"):
        sincos_position_table((2, 2), 16, "diagonal")
    with pytest.raises(ValueError, match=r"`table` must be .* `grid_from`.*\(5, 3\)"):
        interpolate_positions(np.zeros((5, 3)), (3, 2), (2, 2))
