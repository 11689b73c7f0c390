"""Multi-head self-attention with one fused projection."""

import keras

from keras_siamim._backend.kernels import self_attention
from keras_siamim.layers.arguments import whole_number
from keras_siamim.layers.dense import Dense


@keras.saving.register_keras_serializable(package="keras_siamim")
class Attention(keras.layers.Layer):
    """Multi-head self-attention: one fused qkv projection with bias, scale 1/sqrt(head width), output projection.

    The columns of the fused kernel are ordered (q | k | v), each (head, channel).

    Args:
        num_heads: Heads; must divide the width of the input.
        **kwargs: As for every Keras layer.
    """

    def __init__(self, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = whole_number("num_heads", num_heads)

    def build(self, input_shape):
        """Create both projections for tokens (batch, tokens, width)."""
        width = input_shape[-1]
        if width % self.num_heads:
            raise ValueError(f"`num_heads` must divide the width. Received: num_heads={self.num_heads}, width={width}.")
        self.qkv = Dense(3 * width, dtype=self.dtype_policy, name="qkv")
        self.qkv.build(input_shape)
        self.projection = Dense(width, dtype=self.dtype_policy, name="projection")
        self.projection.build(input_shape)

    def call(self, x):
        """(batch, tokens, width) to the same."""
        return self.projection(self_attention(self.qkv(x), self.num_heads))

    def compute_output_shape(self, input_shape):
        """As the input."""
        return input_shape

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "num_heads": self.num_heads}
