"""Convolutions of dense models, with the initial values of PyTorch's programs."""

from typing import Any

import keras

# Images and maps have their channels last, whatever Keras's setting is.
CHANNELS_LAST = {"data_format": "channels_last"}


def fan_in_uniform(fan_in: int) -> keras.initializers.Initializer:
    """Return PyTorch's default initializer of kernels and biases: uniform within 1 / sqrt(fan_in) of 0.

    Args:
        fan_in: int. Number of inputs of an output channel.

    Example:
        >>> float(keras.ops.max(fan_in_uniform(4)((100,)))) <= 0.5
        True
    """
    bound = fan_in**-0.5
    return keras.initializers.RandomUniform(-bound, bound)


def upsampling(width: int, dtype: Any, name: str) -> keras.layers.Conv2DTranspose:
    """Create a transposed convolution that doubles both sides of a map.

    Args:
        width: int. Output channels.
        dtype: dtype or `keras.DTypePolicy`.
        name: str. Name of the layer.

    Example:
        >>> tuple(upsampling(4, "float32", "up")(keras.ops.zeros((1, 2, 3, 8))).shape)
        (1, 4, 6, 4)
    """
    return keras.layers.Conv2DTranspose(
        width,
        2,
        strides=2,
        # PyTorch counts a transposed kernel's output channels as its fan in.
        kernel_initializer=fan_in_uniform(4 * width),
        bias_initializer=fan_in_uniform(4 * width),
        dtype=dtype,
        name=name,
        **CHANNELS_LAST,
    )
