"""Sliding windows over images that are larger than a model's input."""

from collections.abc import Callable

import numpy as np


def window_starts(size: int, window: int, stride: int) -> list[int]:
    """Return the first pixel of each window along one axis; the last window is moved back to end at the border.

    Args:
        size: int, at least `window`. Pixels of the axis.
        window: int. Pixels of a window.
        stride: int in [1, window]. Pixels from one window to the next.

    Raises:
        ValueError: If `stride` is out of its range.

    Example:
        >>> window_starts(700, window=512, stride=341)
        [0, 188]
    """
    if not 1 <= stride <= window:
        raise ValueError(f"`stride` must be in [1, {window}]. Received: {stride}.")
    count = max(size - window + stride - 1, 0) // stride + 1
    return [max(min(index * stride, size - window), 0) for index in range(count)]


def slide(
    predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray, window: tuple[int, int], stride: tuple[int, int]
) -> np.ndarray:
    """Return the mean logits of overlapping windows over an image.

    Args:
        predict: Function from images (windows, height, width, channels) to logits (windows, height, width, classes).
        image: (height, width, channels) float array. Sides below `window` are padded with zeros right and below.
        window: (height, width) of a window in pixels.
        stride: (rows, columns) in pixels from one window to the next.

    Returns:
        (height, width, classes) float32.

    Raises:
        ValueError: If `stride` exceeds `window`.

    Example:
        >>> slide(lambda x: x[..., :1], np.ones((5, 7, 3)), (4, 4), (2, 2)).shape
        (5, 7, 1)
    """
    height, width = image.shape[:2]
    missing = [(0, max(side - size, 0)) for side, size in zip(window, (height, width), strict=True)]
    padded = np.pad(image, [*missing, (0, 0)])
    rows, columns = (window_starts(*axis) for axis in zip(padded.shape[:2], window, stride, strict=True))
    total, count = None, np.zeros((*padded.shape[:2], 1), "float32")
    for row in rows:
        # One row of windows at a time bounds the memory.
        cuts = [padded[row : row + window[0], column : column + window[1]] for column in columns]
        for column, logits in zip(columns, predict(np.stack(cuts)), strict=True):
            if total is None:
                total = np.zeros((*padded.shape[:2], logits.shape[-1]), "float32")
            total[row : row + window[0], column : column + window[1]] += logits
            count[row : row + window[0], column : column + window[1]] += 1
    return (total / count)[:height, :width]
