"""The dense layer of everything here."""

import keras

from keras_siamim._backend.kernels import dense
from keras_siamim.layers.arguments import whole_number


@keras.saving.register_keras_serializable(package="keras_siamim")
class Dense(keras.layers.Dense):
    """`keras.layers.Dense` by the backend's fastest exact product; same arguments, same weights."""

    def __init__(self, units, *arguments, **kwargs):
        super().__init__(whole_number("units", units), *arguments, **kwargs)

    def call(self, inputs, training=None):
        """(..., inputs) to (..., units)."""
        x = dense(inputs, self.kernel, self.bias)
        return x if self.activation is None else self.activation(x)
