"""Repetition of images with rare classes, for long-tailed data sets such as LVIS."""

from __future__ import annotations

import numpy as np

from keras_siamim.data import random
from keras_siamim.types import ArrayLike


def repeat_factors(image_index: ArrayLike, labels: ArrayLike, num_images: int, threshold: float) -> np.ndarray:
    """Return how often each image is used per epoch, on average (LVIS, arXiv 1908.03195).

    With the fraction f of images that have a class, the factor of the class is `max(1, sqrt(threshold / f))`. An image
    has the largest factor of its classes, and 1 without objects.

    Args:
        image_index: (objects,) integers in [0, num_images).
        labels: (objects,) integers from 0. Classes.
        num_images: Integer. Number of images.
        threshold: Float in [0, 1]. Fraction of images below which a class is repeated.

    Returns:
        (num_images,) float64, at least 1.

    Raises:
        ValueError: If `threshold` is outside [0, 1].

    Example:
        >>> repeat_factors([0, 1, 2, 3, 3], [0, 0, 0, 0, 1], 4, threshold=1.0).tolist()
        [1.0, 1.0, 1.0, 2.0]
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` must be in [0, 1]. Received: {threshold}.")
    pairs = np.unique(np.stack([np.asarray(image_index, "int64"), np.asarray(labels, "int64")], axis=1), axis=0)
    fractions = np.bincount(pairs[:, 1], minlength=1) / num_images
    # Classes without images stay at 1.
    of_class = np.maximum(1.0, np.sqrt(threshold / np.where(fractions > 0, fractions, np.inf)))
    factors = np.ones(num_images)
    np.maximum.at(factors, pairs[:, 0], of_class[pairs[:, 1]])
    return factors


def repeated(factors: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Return the images of an epoch: each as often as its factor says, whose fraction is decided by a coin.

    Args:
        factors: (images,) floats, at least 0.
        seed: Integer. Seed of the coins.
        epoch: Integer. Epoch; each has other coins.

    Returns:
        (uses,) int64. Positions in `factors`, ascending.

    Example:
        >>> repeated(np.array([1.0, 0.0, 3.0]), seed=0, epoch=0).tolist()
        [0, 2, 2, 2]
    """
    whole = np.floor(factors)
    keys = random.stream_keys(seed, random.REPEATS, epoch, np.arange(len(factors)))
    coins = random.uniforms(keys, 1)[:, 0] < factors - whole
    return np.repeat(np.arange(len(factors)), (whole + coins).astype("int64"))
