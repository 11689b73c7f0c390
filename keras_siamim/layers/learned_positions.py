"""Learned position embedding."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_siamim.arguments import whole_number
from keras_siamim.ops import resize_positions
from keras_siamim.types import Tensor


@keras.saving.register_keras_serializable(package="keras_siamim")
class LearnedPositions(keras.layers.Layer):
    """Learned position embedding: one vector for the class token and one per patch, resized bicubically to other grids.

    The weight has the shape (1, 1 + rows * columns, width); its first row belongs to the class token.

    Args:
        width: int. Channels.
        grid: (rows, columns) of the patch grid of the weight.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `width` or a side of `grid` is not a positive integer.

    Example:
        >>> from keras_siamim.layers import LearnedPositions
        >>> positions = LearnedPositions(width=8, grid=(2, 2))
        >>> positions.build()
        >>> tuple(positions.table((3, 3)).shape)
        (10, 8)
    """

    def __init__(self, width: int, grid: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.width = whole_number("width", width)
        rows, columns = (whole_number("grid", side) for side in grid)
        self.grid = (rows, columns)

    def build(self, input_shape=None):
        shape = (1, 1 + self.grid[0] * self.grid[1], self.width)
        self.embedding = self.add_weight(
            shape=shape, initializer=keras.initializers.RandomNormal(stddev=0.02), name="embedding"
        )
        self.built = True

    def table(self, grid: tuple[int, int]) -> Tensor:
        """Return the positions (1 + rows * columns, width) of a grid (rows, columns), in the compute dtype."""
        table = ops.cast(self.embedding[0], "float32")
        if tuple(grid) != self.grid:
            patches = resize_positions(table[1:], self.grid, grid)
            table = ops.concatenate([table[:1], patches], axis=0)
        return ops.cast(table, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "width": self.width, "grid": list(self.grid)}
