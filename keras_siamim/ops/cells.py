"""Conversion between feature maps and the sequence of positions of the visible grid cells.

In a sequence (batch, cells * height * width, channels), positions are ordered cell by cell, and row by row within a
cell. A whole feature map is the sequence of one cell that is as large as the image.
"""

from keras import ops

from keras_siamim.ops.tokens import gather_tokens
from keras_siamim.types import Tensor


def map_to_cells(
    maps: Tensor, cell: tuple[int, int], grid: tuple[int, int], visible_ids: Tensor | None = None
) -> Tensor:
    """Return the positions of grid cells.

    Args:
        maps: (batch, rows * height, columns * width, channels).
        cell: (height, width) of a cell.
        grid: (rows, columns) of cells.
        visible_ids: (batch, cells) int32. Indices of the cells. Defaults to None, all in order.

    Returns:
        (batch, cells * height * width, channels).

    Example:
        >>> from keras_siamim.ops import map_to_cells
        >>> maps = np.arange(16.0).reshape(1, 4, 4, 1)
        >>> map_to_cells(maps, cell=(2, 2), grid=(2, 2), visible_ids=np.array([[1]])).numpy().ravel().tolist()
        [2.0, 3.0, 6.0, 7.0]
    """
    (height, width), (rows, columns), channels = cell, grid, maps.shape[-1]
    if grid != (1, 1):
        split = ops.reshape(maps, (-1, rows, height, columns, width, channels))
        maps = ops.transpose(split, (0, 1, 3, 2, 4, 5))
    if visible_ids is None:
        return ops.reshape(maps, (-1, rows * columns * height * width, channels))
    cells = gather_tokens(ops.reshape(maps, (-1, rows * columns, height * width * channels)), visible_ids)
    return ops.reshape(cells, (-1, visible_ids.shape[1] * height * width, channels))


def cells_to_map(x: Tensor, cell: tuple[int, int], grid: tuple[int, int], visible_ids: Tensor | None = None) -> Tensor:
    """Return the feature map of grid cells, zero outside them: the inverse of `map_to_cells`.

    Args:
        x: (batch, cells * height * width, channels).
        cell: (height, width) of a cell.
        grid: (rows, columns) of cells.
        visible_ids: (batch, cells) int32. Indices of the cells, each at most once. Defaults to None, all in order.

    Returns:
        (batch, rows * height, columns * width, channels).

    Example:
        >>> from keras_siamim.ops import cells_to_map
        >>> cells_to_map(np.ones((1, 1, 1)), cell=(1, 1), grid=(1, 3), visible_ids=np.array([[2]])).numpy().ravel()
        array([0., 0., 1.])
    """
    (height, width), (rows, columns), channels = cell, grid, x.shape[-1]
    if visible_ids is not None:
        cells = ops.reshape(x, (-1, visible_ids.shape[1], height * width * channels))
        x = gather_tokens(ops.pad(cells, ((0, 0), (0, 1), (0, 0))), _sources(visible_ids, rows * columns))
    if grid == (1, 1):
        return ops.reshape(x, (-1, height, width, channels))
    split = ops.reshape(x, (-1, rows, columns, height, width, channels))
    return ops.reshape(ops.transpose(split, (0, 1, 3, 2, 4, 5)), (-1, rows * height, columns * width, channels))


def _sources(visible_ids, cells):
    """Return for each cell its index in `visible_ids`, or their number if it is not there, (batch, cells) int32."""
    found = ops.equal(ops.cast(visible_ids, "int32")[:, None, :], ops.arange(cells, dtype="int32")[None, :, None])
    index = ops.argmax(ops.cast(found, "int32"), axis=-1)
    return ops.where(ops.any(found, axis=-1), ops.cast(index, "int32"), visible_ids.shape[1])
