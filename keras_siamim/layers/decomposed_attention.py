"""Self-attention over maps, in windows or globally, with decomposed relative positions."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_siamim._backend.kernels import biased_self_attention
from keras_siamim.arguments import whole_number
from keras_siamim.layers.attention import Attention
from keras_siamim.ops.windows import decomposed_position_logits, join_windows, split_windows


@keras.saving.register_keras_serializable(package="keras_siamim")
class DecomposedAttention(Attention):
    """`Attention` over maps with relative positions of rows and columns (ViTDet, arXiv 2203.16527, section 3).

    Each head adds `query @ (row vector + column vector)` to its scaled logits, with the unscaled query and one vector
    per offset of rows and of columns. The heads share both tables. They start at zero, so that a layer with the
    projections of an `Attention` starts with its outputs.

    Args:
        num_heads: int. Number of heads, a divisor of the input's width.
        grid: (rows, columns) for which the tables are made: the window, or the map for global attention. Maps of
            another size get tables that are resized linearly.
        window_size: int. Side of the windows, within which tokens attend. Maps are padded with zeros to a multiple of
            it, and the padding takes part. Defaults to None, global attention.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        x: (batch, rows, columns, width) float.

    Returns:
        (batch, rows, columns, width).

    Raises:
        ValueError: If `num_heads`, `window_size` or a side of `grid` is not a positive integer, or, when built,
            `num_heads` does not divide the width.

    Example:
        >>> from keras_siamim.layers import DecomposedAttention
        >>> layer = DecomposedAttention(num_heads=2, grid=(4, 4), window_size=4)
        >>> tuple(layer(keras.ops.zeros((1, 5, 6, 8))).shape)
        (1, 5, 6, 8)
    """

    def __init__(self, num_heads: int, grid: Sequence[int], window_size: int | None = None, **kwargs: Any):
        super().__init__(num_heads, **kwargs)
        rows, columns = (whole_number("grid", side) for side in grid)
        self.grid = (rows, columns)
        self.window_size = None if window_size is None else whole_number("window_size", window_size)

    def build(self, input_shape):
        super().build(input_shape)
        channels = input_shape[-1] // self.num_heads
        self.row_table, self.column_table = (
            self.add_weight(shape=(2 * side - 1, channels), initializer="zeros", name=name)
            for side, name in zip(self.grid, ("row_table", "column_table"), strict=True)
        )

    def call(self, x):
        if self.window_size is None:
            return self._attend(x)
        return join_windows(self._attend(split_windows(x, self.window_size)), tuple(x.shape[1:3]))

    def _attend(self, x):
        _, rows, columns, width = x.shape
        qkv = ops.reshape(self.qkv(x), (-1, rows * columns, 3 * width))
        query = ops.reshape(qkv[..., :width], (-1, rows * columns, self.num_heads, width // self.num_heads))
        logits = decomposed_position_logits(
            ops.transpose(query, (0, 2, 1, 3)), self.row_table, self.column_table, (rows, columns)
        )
        mixed = biased_self_attention(qkv, self.num_heads, logits)
        return self.projection(ops.reshape(mixed, (-1, rows, columns, width)))

    def get_config(self):
        return {**super().get_config(), "grid": list(self.grid), "window_size": self.window_size}
