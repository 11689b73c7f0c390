"""Anchors: reference boxes at every cell of a map. NumPy, since they depend on sizes only."""

from collections.abc import Sequence

import numpy as np


def cell_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> np.ndarray:
    """Return the anchors of one cell, centered at 0.

    Args:
        sizes: Sequence of floats. Square roots of the areas.
        aspect_ratios: Sequence of floats. Heights over widths.

    Returns:
        (sizes * aspect ratios, 4) float32: x1, y1, x2, y2; all ratios of the first size come first.

    Example:
        >>> cell_anchors([4], [1.0]).tolist()
        [[-2.0, -2.0, 2.0, 2.0]]
    """
    size, ratio = (values.ravel() for values in np.meshgrid(sizes, aspect_ratios, indexing="ij"))
    width = np.sqrt(size.astype("float64") ** 2 / ratio)
    half = np.stack([width, ratio * width], axis=-1) / 2
    return np.concatenate([-half, half], axis=-1).astype("float32")


def grid_anchors(
    cell: np.ndarray, grid: tuple[int, int], stride: float | tuple[float, float], offset: float = 0.0
) -> np.ndarray:
    """Return the anchors of all cells of a map.

    Args:
        cell: (anchors, 4) float32, from `cell_anchors`.
        grid: (rows, columns) of the map.
        stride: float or (rows, columns). Pixels from one cell to the next.
        offset: float. Position of a cell's center in the cell, in cells. Defaults to 0, the top left corner.

    Returns:
        (rows * columns * anchors, 4) float32, in the order of rows, columns and anchors.

    Example:
        >>> grid_anchors(cell_anchors([4], [1.0]), (1, 2), stride=8).tolist()
        [[-2.0, -2.0, 2.0, 2.0], [6.0, -2.0, 10.0, 2.0]]
    """
    strides = np.broadcast_to(np.asarray(stride, "float32"), 2)
    y, x = (
        (np.arange(count, dtype="float32") + np.float32(offset)) * step
        for count, step in zip(grid, strides, strict=True)
    )
    y, x = np.meshgrid(y, x, indexing="ij")
    centers = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
    return (centers + cell).reshape(-1, 4)
