"""Learned token: the class token of a ViT, or the mask token of a decoder."""

from typing import Any

import keras
from keras import ops

from keras_siamim.arguments import whole_number
from keras_siamim.types import Tensor


@keras.saving.register_keras_serializable(package="keras_siamim")
class Token(keras.layers.Layer):
    """Learned token, initialized from a normal distribution of standard deviation 0.02.

    Args:
        width: int. Channels.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        tokens: (batch, tokens, width).

    Returns:
        (batch, 1 + tokens, width), with the learned token first.

    Raises:
        ValueError: If `width` is not a positive integer.

    Example:
        >>> from keras_siamim.layers import Token
        >>> tuple(Token(width=8)(keras.ops.zeros((1, 5, 8))).shape)
        (1, 6, 8)
    """

    def __init__(self, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = whole_number("width", width)

    def build(self, input_shape=None):
        # Three dimensions: AdamW applies weight decay to it, as the authors' program does.
        self.token = self.add_weight(
            shape=(1, 1, self.width), initializer=keras.initializers.RandomNormal(stddev=0.02), name="token"
        )
        self.built = True

    def repeat(self, batch: int | Tensor, tokens: int = 1) -> Tensor:
        """Return copies of the token, (batch, tokens, width), in the compute dtype; `batch` may be a tensor."""
        return ops.broadcast_to(ops.cast(self.token, self.compute_dtype), (batch, tokens, self.width))

    def call(self, tokens):
        return ops.concatenate([self.repeat(ops.shape(tokens)[0]), tokens], axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], None if input_shape[1] is None else input_shape[1] + 1, self.width)

    def get_config(self):
        return {**super().get_config(), "width": self.width}
