"""Position embeddings of weight files: recognize sine-cosine tables, and resize tables to another grid."""

from typing import Any

import numpy as np

from keras_siamim.ops import interpolate_positions, sincos_position_table
from keras_siamim.ops.positions import AXIS_ORDERS


def square_grid(table: np.ndarray) -> tuple[tuple[int, int], np.ndarray]:
    """Return the patch grid of a table, and the table with a class row.

    Args:
        table: (1 + patches, width) or (patches, width) float.

    Returns:
        Tuple of (side, side) and the table (1 + patches, width). A missing class row is filled with zeros.

    Raises:
        ValueError: If the number of patches is not a square.

    Example:
        >>> grid, table = square_grid(np.ones((16, 8)))
        >>> grid, table.shape
        ((4, 4), (17, 8))
    """
    for leading in (1, 0):
        side = round((len(table) - leading) ** 0.5)
        if side >= 1 and side * side == len(table) - leading:
            filled = table if leading else np.concatenate([np.zeros_like(table[:1]), table])
            return (side, side), filled
    raise ValueError(f"`grid` must be given for positions without a square grid. Received: {len(table)} positions.")


def sincos_order(table: np.ndarray, grid: tuple[int, int], tolerance: float = 1e-5) -> str | None:
    """Return the `axis_order` of a sine-cosine table with a class row of zeros.

    Args:
        table: (1 + patches, width) float.
        grid: (rows, columns) of the patches.
        tolerance: Float. Largest absolute difference from the exact table. Defaults to 1e-5.

    Returns:
        One of `AXIS_ORDERS`; None for any other table, which was learned.

    Example:
        >>> sincos_order(np.ones((17, 8)), (4, 4)) is None
        True
    """
    if table.shape[-1] % 4 or np.any(table[0]) or len(table) != 1 + grid[0] * grid[1]:
        return None
    for order in AXIS_ORDERS:
        if np.allclose(table[1:], sincos_position_table(grid, table.shape[-1], order), atol=tolerance):
            return order
    return None


def encoder_positions(
    table: np.ndarray, grid_from: tuple[int, int], grid_to: tuple[int, int]
) -> tuple[dict[str, Any], np.ndarray | None]:
    """Return the `ViTEncoder` arguments for a table, and the learned table to assign.

    Args:
        table: (1 + patches, width) float.
        grid_from: (rows, columns) of the table.
        grid_to: (rows, columns) of the encoder. A different grid makes the table a learned one, resized bicubically.

    Returns:
        Tuple of constructor arguments and a table (1, 1 + patches, width), or None for a sine-cosine table.

    Example:
        >>> arguments, table = encoder_positions(np.ones((17, 8), "float32"), (4, 4), (2, 2))
        >>> arguments, table.shape
        ({'position_embedding': 'learned'}, (1, 5, 8))
    """
    order = sincos_order(table, grid_from)
    if order and grid_from == grid_to:
        return {"position_embedding": "sincos", "axis_order": order}, None
    if grid_from != grid_to:
        table = interpolate_positions(table, grid_from, grid_to)
    return {"position_embedding": "learned"}, table[None]
