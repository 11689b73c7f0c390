"""Sizes and windows of the augmentation of dense tasks, in NumPy.

The functions take numbers or arrays, and compute in float64 as the reference programs do, so that roundings agree.
"""

from __future__ import annotations

import numpy as np

from keras_siamim.types import ArrayLike


def jittered_size(height: ArrayLike, width: ArrayLike, scale: ArrayLike, size: int) -> np.ndarray:
    """Return the sizes of images after large-scale jitter (METHOD_DENSE.md section 3.5).

    An image is resized to fit a square of `scale * size` pixels. Its aspect is kept.

    Args:
        height: Integer or (images,) integers. Heights in pixels.
        width: As `height`.
        scale: Float or (images,) floats. Random factors of the square's side.
        size: Integer. Side of the square for a factor of 1, in pixels.

    Returns:
        (2,) or (images, 2) int64: heights and widths, at least 1, with halves rounded to even.

    Example:
        >>> jittered_size(480, 640, 0.37, 1024).tolist()
        [284, 379]
    """
    height, width, scale = np.broadcast_arrays(height, width, np.asarray(scale, "float64"))
    sides = np.stack([height, width], axis=-1).astype("float64")
    factors = (scale[..., None] * size / sides).min(axis=-1, keepdims=True)
    return np.maximum(np.round(sides * factors), 1).astype("int64")


def crop_window(height: ArrayLike, width: ArrayLike, u: ArrayLike, size: int) -> np.ndarray:
    """Return random windows of at most `size` x `size` pixels (METHOD_DENSE.md section 3.5).

    Args:
        height: Integer or (images,) integers. Heights in pixels.
        width: As `height`.
        u: Float or (images,) floats in [0, 1). Random offsets as fractions, the same for both axes.
        size: Integer. Largest side of the windows in pixels.

    Returns:
        (4,) or (images, 4) int64: top, left, height and width. A side below `size` is kept.

    Example:
        >>> crop_window(1500, 1100, 0.31, 1024).tolist()
        [148, 24, 1024, 1024]
    """
    height, width, u = np.broadcast_arrays(height, width, np.asarray(u, "float64"))
    sides = np.stack([height, width], axis=-1).astype("int64")
    windows = np.minimum(sides, size)
    offsets = np.round((sides - windows) * u[..., None]).astype("int64")
    return np.concatenate([offsets, windows], axis=-1)


def shortest_edge_size(height: ArrayLike, width: ArrayLike, shortest: int, longest: int) -> np.ndarray:
    """Return the sizes of images with a given shorter side, or a smaller one if the longer side would be too long.

    Args:
        height: Integer or (images,) integers. Heights in pixels.
        width: As `height`.
        shortest: Integer. Length of the shorter side in pixels.
        longest: Integer. Largest length of the longer side in pixels.

    Returns:
        (2,) or (images, 2) int64: heights and widths, at least 1, with halves rounded up.

    Example:
        >>> shortest_edge_size(427, 640, 1024, 1024).tolist()
        [683, 1024]
    """
    sides = np.stack(np.broadcast_arrays(height, width), axis=-1).astype("float64")
    least = sides.min(axis=-1, keepdims=True)
    # Two multiplications in this order, as in the reference: their rounding decides halves.
    sides = np.where(sides == least, shortest, shortest / least * sides)
    most = sides.max(axis=-1, keepdims=True)
    sides = np.where(most > longest, sides * (longest / most), sides)
    return np.maximum(np.floor(sides + 0.5), 1).astype("int64")
