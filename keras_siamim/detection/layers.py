"""Layers that pyramid and heads share."""

from typing import Any

import keras
from keras import ops

from keras_siamim.arguments import whole_number
from keras_siamim.layers.block import make_norm
from keras_siamim.layers.convolution import CHANNELS_LAST, fan_in_uniform


@keras.saving.register_keras_serializable(package="keras_siamim")
class ConvNorm(keras.layers.Layer):
    """Convolution without bias, LayerNorm over the channels of each place and, in heads, ReLU.

    Args:
        width: int. Output channels.
        kernel_size: int, odd. Side of the kernel; the map keeps its size.
        relu: bool. Whether to apply ReLU. The kernel then starts as Kaiming's normal distribution (fan out), otherwise
            with PyTorch's default. Defaults to False.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `width` or `kernel_size` is not a positive integer.

    Example:
        >>> from keras_siamim.detection.layers import ConvNorm
        >>> tuple(ConvNorm(8, kernel_size=3)(keras.ops.zeros((1, 4, 5, 3))).shape)
        (1, 4, 5, 8)
    """

    def __init__(self, width: int, kernel_size: int, relu: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = whole_number("width", width)
        self.kernel_size = whole_number("kernel_size", kernel_size)
        self.relu = relu
        self.norm = make_norm("layer", self.dtype_policy, "norm")

    def build(self, input_shape):
        kaiming = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
        default = fan_in_uniform(self.kernel_size**2 * input_shape[-1])
        self.convolution = keras.layers.Conv2D(
            self.width,
            self.kernel_size,
            padding="same",
            use_bias=False,
            kernel_initializer=kaiming if self.relu else default,
            dtype=self.dtype_policy,
            name="convolution",
            **CHANNELS_LAST,
        )
        self.convolution.build(input_shape)
        self.norm.build((*input_shape[:-1], self.width))

    def call(self, x):
        x = self.norm(self.convolution(x))
        return ops.relu(x) if self.relu else x

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.width)

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "kernel_size": self.kernel_size,
            "relu": self.relu,
        }
