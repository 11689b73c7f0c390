"""The two rows that stand beside every result: raw pixels, and the same encoder before any training."""

import random

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_siamim")
class RawPixels(keras.Model):
    """An "encoder" that learns nothing: its class token, and its only patch token, are the image's pixels.

    Args:
        max_side: images with a longer side are first averaged down (area) to this many pixels a side, which bounds the
            width of the features by `3 * max_side ** 2`.

    Raises:
        ValueError: if `max_side` is below 1.
    """

    def __init__(self, max_side=32, **kwargs):
        super().__init__(**kwargs)
        if max_side < 1:
            raise ValueError(f"`max_side` must be 1 or more; received {max_side}.")
        self.max_side = max_side

    def call(self, images):
        """Map images (batch, height, width, 3) to (batch, 2, pixels) floats."""
        height, width = images.shape[1:3]
        if max(height, width) > self.max_side:
            size = (min(height, self.max_side), min(width, self.max_side))
            images = ops.image.resize(images, size, interpolation="bilinear", antialias=True)
        pixels = ops.reshape(images, (ops.shape(images)[0], 1, int(np.prod(images.shape[1:]))))
        return ops.concatenate([pixels, pixels], axis=1)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "max_side": self.max_side}


def random_initialized(encoder, image_shape, seed=0):
    """Return an encoder of the same architecture with fresh weights, as it was before any training.

    Args:
        encoder: a `keras.Model` with a configuration.
        image_shape: (height, width, 3) of the images it will see.
        seed: of the initial weights.

    Raises:
        ValueError: if the encoder is not a Keras model, such as a SavedModel, whose initializers are not known.
    """
    if not isinstance(encoder, keras.Model):
        raise ValueError(f"`encoder` must be a keras.Model to be initialized anew; received {type(encoder).__name__}.")
    state = random.getstate()
    random.seed(seed)  # where Keras's initializers take their seeds from
    try:
        fresh = type(encoder).from_config(encoder.get_config())
        channels_first = getattr(fresh, "data_format", None) == "channels_first"
        height, width, channels = image_shape
        fresh(np.zeros((1, channels, height, width) if channels_first else (1, *image_shape), "float32"))
    finally:
        random.setstate(state)
    return fresh
