"""Windows of feature maps, and decomposed relative positions (ViTDet, arXiv 2203.16527; MViTv2, arXiv 2112.01526)."""

import numpy as np
from keras import ops

from keras_siamim.types import Tensor


def split_windows(x: Tensor, size: int) -> Tensor:
    """Cut maps into square windows, after padding them with zeros right and below to multiples of `size`.

    Args:
        x: (batch, rows, columns, channels) with static rows and columns.
        size: int. Side of a window.

    Returns:
        (batch * windows, size, size, channels), windows ordered row by row.

    Example:
        >>> from keras_siamim.ops.windows import split_windows
        >>> tuple(split_windows(keras.ops.zeros((2, 5, 4, 8)), 4).shape)
        (4, 4, 4, 8)
    """
    _, rows, columns, channels = x.shape
    down, across = -(-rows // size), -(-columns // size)
    x = ops.pad(x, ((0, 0), (0, down * size - rows), (0, across * size - columns), (0, 0)))
    x = ops.reshape(x, (-1, down, size, across, size, channels))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, size, size, channels))


def join_windows(windows: Tensor, grid: tuple[int, int]) -> Tensor:
    """Assemble maps from windows and cut off their padding, the inverse of `split_windows`.

    Args:
        windows: (batch * windows, size, size, channels).
        grid: (rows, columns) of the maps.

    Returns:
        (batch, rows, columns, channels).

    Example:
        >>> from keras_siamim.ops.windows import join_windows
        >>> tuple(join_windows(keras.ops.zeros((4, 4, 4, 8)), (5, 4)).shape)
        (2, 5, 4, 8)
    """
    _, size, _, channels = windows.shape
    rows, columns = grid
    down, across = -(-rows // size), -(-columns // size)
    x = ops.reshape(windows, (-1, down, across, size, size, channels))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, down * size, across * size, channels))
    return x[:, :rows, :columns]


def _linear_weights(size_from: int, size_to: int) -> np.ndarray:
    """Return the matrix (size_to, size_from) of linear interpolation at half-pixel centers, with repeated borders."""
    center = np.clip((np.arange(size_to) + 0.5) * size_from / size_to - 0.5, 0, size_from - 1)
    low = np.floor(center).astype(int)
    weights = np.zeros((size_to, size_from))
    np.add.at(weights, (np.arange(size_to), low), 1 - (center - low))
    np.add.at(weights, (np.arange(size_to), np.minimum(low + 1, size_from - 1)), center - low)
    return weights.astype("float32")


def _table_of_axis(table, size):
    """Return the vectors of all pairs of positions along one axis, (queries, keys, channels)."""
    length = 2 * size - 1
    if table.shape[0] != length:
        weights = ops.convert_to_tensor(_linear_weights(table.shape[0], length), dtype=table.dtype)
        table = ops.matmul(weights, table)
    index = np.arange(size)[:, None] - np.arange(size) + size - 1
    return ops.reshape(ops.take(table, index.ravel(), axis=0), (size, size, table.shape[1]))


def decomposed_position_logits(query: Tensor, row_table: Tensor, column_table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return what decomposed relative positions add to the logits of attention.

    The term of query (i, j) and key (k, l) is `query @ (row_table[i - k + rows - 1] + column_table[j - l + columns -
    1])`. A table of another length than 2 * side - 1 is resized linearly first.

    Args:
        query: (batch, heads, rows * columns, channels) float, not scaled.
        row_table: (length, channels) float.
        column_table: (length, channels) float.
        grid: (rows, columns).

    Returns:
        (batch, heads, rows * columns, rows * columns) in the dtype of `query`.

    Example:
        >>> from keras_siamim.ops.windows import decomposed_position_logits
        >>> query, table = keras.ops.ones((1, 1, 2, 1)), np.float32([[1], [2], [3]])
        >>> keras.ops.convert_to_numpy(decomposed_position_logits(query, np.zeros((1, 1), "float32"), table, (1, 2)))
        array([[[[2., 1.],
                 [3., 2.]]]], dtype=float32)
    """
    rows, columns = grid
    heads, channels = query.shape[1], query.shape[3]
    row_table, column_table = (
        _table_of_axis(ops.cast(table, query.dtype), size)
        for table, size in ((row_table, rows), (column_table, columns))
    )
    query = ops.reshape(query, (-1, heads, rows, columns, channels))
    by_row = ops.einsum("bhrcd,rkd->bhrck", query, row_table)
    by_column = ops.einsum("bhrcd,cld->bhrcl", query, column_table)
    logits = by_row[..., :, None] + by_column[..., None, :]
    return ops.reshape(logits, (-1, heads, rows * columns, rows * columns))
