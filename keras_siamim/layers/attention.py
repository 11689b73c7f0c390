"""Multi-head self-attention."""

from typing import Any

import keras
from keras import ops

from keras_siamim._backend.kernels import self_attention
from keras_siamim._backend.kernels.heads import split_heads
from keras_siamim.arguments import whole_number
from keras_siamim.layers.dense import Dense
from keras_siamim.types import Tensor


@keras.saving.register_keras_serializable(package="keras_siamim")
class Attention(keras.layers.Layer):
    """Multi-head self-attention with one fused projection to queries, keys and values, and an output projection.

    Both projections have a bias. The columns of the fused kernel are ordered (q | k | v), each (head, channel). Logits
    are scaled by 1/sqrt(channels per head).

    Args:
        num_heads: int. Number of heads, a divisor of the input's width.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `num_heads` is not a positive integer, or, when built, does not divide the width.

    Example:
        >>> from keras_siamim.layers import Attention
        >>> tuple(Attention(num_heads=2)(keras.ops.zeros((1, 5, 8))).shape)
        (1, 5, 8)
    """

    def __init__(self, num_heads: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_heads = whole_number("num_heads", num_heads)

    def build(self, input_shape):
        width = input_shape[-1]
        if width % self.num_heads:
            raise ValueError(f"`num_heads` must divide the width. Received: num_heads={self.num_heads}, width={width}.")
        self.qkv = Dense(3 * width, dtype=self.dtype_policy, name="qkv")
        self.qkv.build(input_shape)
        self.projection = Dense(width, dtype=self.dtype_policy, name="projection")
        self.projection.build(input_shape)

    def call(self, x):
        return self.projection(self_attention(self.qkv(x), self.num_heads))

    def keys(self, x: Tensor) -> Tensor:
        """Return the keys of tokens (batch, tokens, width), of the same shape; channels are ordered (head, channel)."""
        width = x.shape[-1]
        return self.qkv(x)[..., width : 2 * width]

    def class_weights(self, x: Tensor) -> Tensor:
        """Return the attention of the first token to all tokens, (batch, heads, tokens) float32 that sum to 1."""
        query, key, _ = split_heads(self.qkv(x), self.num_heads)
        logits = ops.sum(query[:, :, :1] * key, axis=-1) * query.shape[-1] ** -0.5
        return ops.softmax(ops.cast(logits, "float32"))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}
