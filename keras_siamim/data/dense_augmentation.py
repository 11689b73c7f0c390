"""Sizes, windows and boxes of the augmentation of dense tasks, in NumPy.

The functions take numbers or arrays, and compute in float64 as the reference programs do, so that roundings agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_siamim.types import ArrayLike


def jittered_size(height: ArrayLike, width: ArrayLike, scale: ArrayLike, size: int) -> np.ndarray:
    """Return the sizes of images after large-scale jitter (ViTDet, arXiv 2203.16527).

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
    """Return random windows of at most `size` x `size` pixels (ViTDet, arXiv 2203.16527).

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


def boxes_in_window(
    boxes: ArrayLike, size: Sequence[int], flip: bool, resized: Sequence[int], window: Sequence[int]
) -> np.ndarray:
    """Return the boxes of an image that was flipped, resized and cropped, clipped to the crop.

    Args:
        boxes: (objects, 4) floats: x1, y1, x2, y2 in pixels of the stored image.
        size: (height, width) of the stored image in pixels.
        flip: Whether the image is flipped horizontally, before anything else.
        resized: (height, width) of the resized image.
        window: (top, left, height, width) of the crop of the resized image.

    Returns:
        (objects, 4) float32: x1, y1, x2, y2 in pixels of the crop. A box outside has no area.

    Example:
        >>> boxes_in_window([[1, 1, 3, 4]], (10, 10), True, (20, 20), (0, 2, 6, 18)).tolist()
        [[12.0, 2.0, 16.0, 6.0]]
    """
    x1, y1, x2, y2 = np.asarray(boxes, "float64").reshape(-1, 4).T
    x1, x2 = (size[1] - x2, size[1] - x1) if flip else (x1, x2)
    (top, left, rows, columns), (height, width) = window, resized
    x1, x2 = (np.clip(x * width / size[1] - left, 0, columns) for x in (x1, x2))
    y1, y2 = (np.clip(y * height / size[0] - top, 0, rows) for y in (y1, y2))
    return np.stack([x1, y1, x2, y2], axis=1).astype("float32")


def visible_objects(boxes: np.ndarray, most: int) -> np.ndarray:
    """Return which objects a crop still has, at most `most` of them: the largest ones.

    Args:
        boxes: (objects, 4) floats: x1, y1, x2, y2.
        most: Integer. Largest number of objects.

    Returns:
        (visible,) int64, ascending. Positions in `boxes` of those with an area.

    Example:
        >>> visible_objects(np.array([[0, 0, 1, 1], [2, 0, 2, 4], [0, 0, 2, 1], [0, 0, 3, 1]]), most=2).tolist()
        [2, 3]
    """
    sizes = boxes[:, 2:] - boxes[:, :2]
    areas = np.where((sizes > 0).all(axis=1), np.prod(sizes, axis=1), 0)
    largest = np.argsort(-areas, kind="stable")[:most]
    return np.sort(largest[areas[largest] > 0])
