"""Self-attention with a learned bias per relative position."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_siamim._backend.kernels import biased_self_attention
from keras_siamim.arguments import whole_number
from keras_siamim.layers.attention import Attention


def relative_position_index(grid: tuple[int, int]) -> np.ndarray:
    """Return the row of the bias table for each pair of tokens, a class token and the patches of a grid.

    The table has one row per offset of two patches, then three rows: from the class token to a patch, from a patch to
    the class token, and from the class token to itself (BEiT, arXiv 2106.08254).

    Args:
        grid: (rows, columns) of the patch grid.

    Returns:
        (1 + patches, 1 + patches) int32, queries along the first axis.

    Example:
        >>> relative_position_index((1, 2))
        array([[5, 3, 3],
               [4, 1, 0],
               [4, 2, 1]], dtype=int32)
    """
    rows, columns = grid
    row, column = (axis.ravel() for axis in np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"))
    patches = (row[:, None] - row + rows - 1) * (2 * columns - 1) + column[:, None] - column + columns - 1
    offsets = (2 * rows - 1) * (2 * columns - 1)
    index = np.full((1 + len(row), 1 + len(row)), offsets, "int32")
    index[1:, 1:] = patches
    index[1:, 0] = offsets + 1
    index[0, 0] = offsets + 2
    return index


@keras.saving.register_keras_serializable(package="keras_siamim")
class RelativeAttention(Attention):
    """`Attention` with a bias per head and relative position, added to the scaled logits (BEiT, arXiv 2106.08254).

    The biases start at zero, so that a layer with the projections of an `Attention` starts with its outputs.

    Args:
        num_heads: int. Number of heads, a divisor of the input's width.
        grid: (rows, columns) of the patch grid. The tokens are a class token and the patches of this grid.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `num_heads` or a side of `grid` is not a positive integer, or, when built, `num_heads` does not
            divide the width.

    Example:
        >>> from keras_siamim.layers import RelativeAttention
        >>> tuple(RelativeAttention(num_heads=2, grid=(2, 2))(keras.ops.zeros((1, 5, 8))).shape)
        (1, 5, 8)
    """

    def __init__(self, num_heads: int, grid: Sequence[int], **kwargs: Any):
        super().__init__(num_heads, **kwargs)
        rows, columns = (whole_number("grid", side) for side in grid)
        self.grid = (rows, columns)

    def build(self, input_shape):
        super().build(input_shape)
        rows, columns = self.grid
        self.bias_table = self.add_weight(
            shape=((2 * rows - 1) * (2 * columns - 1) + 3, self.num_heads), initializer="zeros", name="bias_table"
        )

    def call(self, x):
        index = relative_position_index(self.grid)
        bias = ops.take(self.bias_table, index.ravel(), axis=0)
        bias = ops.transpose(ops.reshape(bias, (*index.shape, self.num_heads)), (2, 0, 1))
        return self.projection(biased_self_attention(self.qkv(x), self.num_heads, bias))

    def get_config(self):
        return {**super().get_config(), "grid": list(self.grid)}
