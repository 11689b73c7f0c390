"""Baselines that every result is compared with: raw pixels, and the same encoder before any training."""

import contextlib
import random
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops

from keras_siamim.evaluation.features import in_data_format_of


@keras.saving.register_keras_serializable(package="keras_siamim")
class RawPixels(keras.Model):
    """Encoder without weights whose class token and only patch token are the pixels of the image.

    Maps images (batch, height, width, 3) float32 to tokens (batch, 2, pixels) float32.

    Args:
        max_side: Integer, 1 or more, in pixels. Images with a longer side are downsampled to this side, which limits
            the width of the features to `3 * max_side**2`. Defaults to 32.

    Raises:
        ValueError: If `max_side` is below 1.

    Example:
        >>> tuple(RawPixels(max_side=4)(np.zeros((1, 8, 8, 3), "float32")).shape)
        (1, 2, 48)
    """

    def __init__(self, max_side: int = 32, **kwargs):
        super().__init__(**kwargs)
        if max_side < 1:
            raise ValueError(f"`max_side` must be 1 or more. Received: {max_side}.")
        self.max_side = max_side

    def call(self, images):
        height, width = images.shape[1:3]
        if max(height, width) > self.max_side:
            size = (min(height, self.max_side), min(width, self.max_side))
            images = ops.image.resize(images, size, interpolation="bilinear", antialias=True)
        pixels = ops.reshape(images, (ops.shape(images)[0], 1, int(np.prod(images.shape[1:]))))
        return ops.concatenate([pixels, pixels], axis=1)

    def get_config(self):
        return {**super().get_config(), "max_side": self.max_side}


@contextlib.contextmanager
def seeded_initializers(seed: int) -> Iterator[None]:
    """Context in which new models have the initial weights of a seed.

    Args:
        seed: Integer.

    Example:
        >>> with seeded_initializers(0):
        ...     encoder = ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2)
    """
    state = random.getstate()
    random.seed(seed)  # Keras's initializers draw their seeds from this generator
    try:
        yield
    finally:
        random.setstate(state)


def random_initialized(encoder: keras.Model, image_shape: tuple[int, int, int], seed: int = 0) -> keras.Model:
    """Return an untrained encoder of the same architecture.

    Args:
        encoder: `keras.Model` with `get_config`. It stays unchanged.
        image_shape: Tuple (height, width, 3) of integers. Shape of the images that the encoder will receive.
        seed: Integer. Seed of the initial weights. Defaults to 0.

    Returns:
        A built `keras.Model`.

    Raises:
        ValueError: If `encoder` is not a Keras model, because the initializers of others (SavedModels) are unknown.

    Example:
        >>> encoder = ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2)
        >>> baseline = random_initialized(encoder, (8, 8, 3))
        >>> baseline.built, baseline is encoder
        (True, False)
    """
    if not isinstance(encoder, keras.Model):
        raise ValueError(f"`encoder` must be a keras.Model to be initialized anew. Received: {type(encoder).__name__}.")
    with seeded_initializers(seed):
        fresh = type(encoder).from_config(encoder.get_config())
        fresh(in_data_format_of(fresh, keras.ops.zeros((1, *image_shape))))
    return fresh
