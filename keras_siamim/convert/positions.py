"""Position embeddings of weight files: recognized as sine-cosine, or taken as learned, on their grid or on another."""

import numpy as np

from keras_siamim.ops import interpolate_positions, sincos_position_table
from keras_siamim.ops.positions import AXIS_ORDERS


def square_grid(table):
    """Patch grid (side, side) of a table (1 + patches, width) or (patches, width), and the table with a class row.

    A table without a row for the class token gets one of zeros.

    Raises:
        ValueError: If the number of patches is no square.
    """
    for leading in (1, 0):
        side = round((len(table) - leading) ** 0.5)
        if side >= 1 and side * side == len(table) - leading:
            filled = table if leading else np.concatenate([np.zeros_like(table[:1]), table])
            return (side, side), filled
    raise ValueError(f"`grid` must be given: a position embedding of {len(table)} rows is of no square grid.")


def sincos_order(table, grid, tolerance=1e-5):
    """The `axis_order` whose sine-cosine table this is, class row zero; None if it is none, and so is learned."""
    if table.shape[-1] % 4 or np.any(table[0]) or len(table) != 1 + grid[0] * grid[1]:
        return None
    for order in AXIS_ORDERS:
        if np.allclose(table[1:], sincos_position_table(grid, table.shape[-1], order), atol=tolerance):
            return order
    return None


def encoder_positions(table, grid_from, grid_to):
    """Constructor arguments of a `ViTEncoder` for a table, and the table to set, or None where it needs none.

    Args:
        table: (1 + patches, width).
        grid_from: Its (rows, columns).
        grid_to: (rows, columns) of the encoder; another grid makes it a learned one, resized bicubically.
    """
    order = sincos_order(table, grid_from)
    if order and grid_from == grid_to:
        return {"position_embedding": "sincos", "axis_order": order}, None
    if grid_from != grid_to:
        table = interpolate_positions(table, grid_from, grid_to)
    return {"position_embedding": "learned"}, table[None]
