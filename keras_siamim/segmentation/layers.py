"""Convolutions of dense heads, with the initial values of PyTorch's programs."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_siamim.arguments import whole_number
from keras_siamim.layers import TokenBatchNorm
from keras_siamim.layers.convolution import CHANNELS_LAST
from keras_siamim.types import Tensor


def resize_bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps bilinearly with half-pixel centers and without antialiasing.

    Args:
        x: (batch, rows, columns, channels) float.
        size: (rows, columns) of the result.

    Example:
        >>> tuple(resize_bilinear(keras.ops.zeros((1, 2, 3, 4)), (5, 6)).shape)
        (1, 5, 6, 4)
    """
    if tuple(x.shape[1:3]) == tuple(size):
        return x
    return ops.image.resize(x, size, interpolation="bilinear", antialias=False, **CHANNELS_LAST)


def _mean_weights(size: int, bins: int) -> np.ndarray:
    """Return the matrix (bins, size) of means over floor(i * size / bins) ... ceil((i + 1) * size / bins) - 1."""
    weights = np.zeros((bins, size), "float32")
    for index in range(bins):
        start, stop = index * size // bins, -(-(index + 1) * size // bins)
        weights[index, start:stop] = 1 / (stop - start)
    return weights


def adaptive_average_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the means over a grid of overlapping bins, as PyTorch's adaptive average pooling.

    Args:
        x: (batch, rows, columns, channels) float.
        size: (rows, columns) of the result, which may exceed those of `x`.

    Example:
        >>> x = np.arange(3.0).reshape(1, 1, 3, 1)
        >>> keras.ops.convert_to_numpy(adaptive_average_pool(x, (1, 2))).ravel()
        array([0.5, 1.5])
    """
    # Keras's own operation fails on TensorFlow if there are more bins than rows.
    rows, columns = (
        ops.convert_to_tensor(_mean_weights(*axis), dtype=x.dtype) for axis in zip(x.shape[1:3], size, strict=True)
    )
    return ops.einsum("Rr,Cc,brcd->bRCd", rows, columns, x)


def class_logits(num_classes: int, dtype: Any) -> keras.layers.Conv2D:
    """Create the last 1 x 1 convolution of a head, from channels to class logits.

    Args:
        num_classes: int. Number of classes.
        dtype: dtype or `keras.DTypePolicy`.

    Example:
        >>> tuple(class_logits(5, "float32")(keras.ops.zeros((1, 2, 3, 4))).shape)
        (1, 2, 3, 5)
    """
    normal = keras.initializers.RandomNormal(stddev=0.01)
    return keras.layers.Conv2D(num_classes, 1, kernel_initializer=normal, dtype=dtype, name="logits", **CHANNELS_LAST)


@keras.saving.register_keras_serializable(package="keras_siamim")
class ConvNormRelu(keras.layers.Layer):
    """Convolution without bias, BatchNorm over the global batch, ReLU.

    Args:
        width: int. Output channels.
        kernel_size: int, odd. Side of the kernel; the map keeps its size.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `width` or `kernel_size` is not a positive integer.

    Example:
        >>> from keras_siamim.segmentation.layers import ConvNormRelu
        >>> tuple(ConvNormRelu(8, kernel_size=3)(keras.ops.zeros((1, 4, 5, 3))).shape)
        (1, 4, 5, 8)
    """

    def __init__(self, width: int, kernel_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = whole_number("width", width)
        self.kernel_size = whole_number("kernel_size", kernel_size)
        self.convolution = keras.layers.Conv2D(
            width,
            kernel_size,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
            dtype=self.dtype_policy,
            name="convolution",
            **CHANNELS_LAST,
        )
        self.norm = TokenBatchNorm(dtype=self.dtype_policy, name="norm")

    def build(self, input_shape):
        self.convolution.build(input_shape)
        self.norm.build((*input_shape[:-1], self.width))

    def call(self, x, training=False):
        return ops.relu(self.norm(self.convolution(x), training=training))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.width)

    def get_config(self):
        return {**super().get_config(), "width": self.width, "kernel_size": self.kernel_size}
