"""Dense layer."""

from typing import Any

import keras

from keras_siamim._backend.kernels import dense
from keras_siamim.arguments import whole_number


@keras.saving.register_keras_serializable(package="keras_siamim")
class Dense(keras.layers.Dense):
    """`keras.layers.Dense`, computed by the backend's fastest exact product.

    Args:
        units: int. Output channels.
        *arguments: Further positional arguments of `keras.layers.Dense`.
        **kwargs: Arguments of `keras.layers.Dense`.

    Raises:
        ValueError: If `units` is not a positive integer.

    Example:
        >>> from keras_siamim.layers import Dense
        >>> tuple(Dense(4)(keras.ops.zeros((1, 5, 8))).shape)
        (1, 5, 4)
    """

    def __init__(self, units: int, *arguments: Any, **kwargs: Any):
        super().__init__(whole_number("units", units), *arguments, **kwargs)

    def call(self, inputs, training=None):
        x = dense(inputs, self.kernel, self.bias)
        return x if self.activation is None else self.activation(x)
