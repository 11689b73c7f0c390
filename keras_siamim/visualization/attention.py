"""Attention of the class token."""

import numpy as np
from PIL import Image

from keras_siamim.visualization.layout import color_map, panel, sheet


def draw_attention(images: np.ndarray, attention: np.ndarray, grid: tuple[int, int]) -> Image.Image:
    """Draw the attention of the class token to the patches, one map per head, each with its own scale.

    Args:
        images: (images, height, width, 3) floats, normalized.
        attention: (images, heads, patches) floats, 0 or more.
        grid: Tuple (rows, columns).

    Returns:
        A PIL image, one row per image.

    Example:
        >>> draw_attention(np.zeros((1, 8, 8, 3)), np.ones((1, 3, 4)) / 4, (2, 2)).mode
        'RGB'
    """
    rows = []
    for image, heads in zip(images, attention, strict=True):
        own = panel(image)
        maps = [
            panel(color_map(head.reshape(grid), low=0.0)).resize(own.size, Image.Resampling.NEAREST) for head in heads
        ]
        rows.append([own, *maps])
    titles = ["image", *(f"head {number + 1}" for number in range(attention.shape[1]))]
    caption = "Attention of the class token in the last block. Dark: none. Yellow: the largest of the map."
    return sheet(rows, titles, caption)
