"""Correspondence of two images by their nearest patch tokens."""

import colorsys

import numpy as np
from PIL import Image, ImageDraw

from keras_siamim.visualization.cross_view import cosine_similarity
from keras_siamim.visualization.layout import BACKGROUND, GAP, cell, frame_patch, panel, sheet


def mutual_neighbors(first: np.ndarray, second: np.ndarray, count: int = 8) -> list[tuple[int, int]]:
    """Return pairs of tokens of two images, each the nearest of the other, the most similar pairs first.

    The mean token of both images is subtracted first: it is common to all tokens and makes them look alike.

    Args:
        first: (n, width) floats.
        second: (m, width) floats.
        count: Integer. Maximum number of pairs. Defaults to 8.

    Returns:
        List of pairs of indices.

    Example:
        >>> sorted(mutual_neighbors(np.eye(3), np.eye(3)[::-1]))
        [(0, 2), (1, 1), (2, 0)]
    """
    mean = np.concatenate([first, second]).mean(axis=0)
    similarity = cosine_similarity(first - mean, second - mean)
    forth, back = similarity.argmax(axis=1), similarity.argmax(axis=0)
    mutual = [(n, int(m)) for n, m in enumerate(forth) if back[m] == n]
    return sorted(mutual, key=lambda pair: -similarity[pair])[:count]


def draw_correspondence(
    first: np.ndarray,
    second: np.ndarray,
    tokens_1: np.ndarray,
    tokens_2: np.ndarray,
    grid: tuple[int, int],
    count: int = 8,
) -> Image.Image:
    """Draw pairs of images with lines between patches whose tokens are nearest to each other.

    Args:
        first: (images, height, width, 3) floats, normalized.
        second: (images, height, width, 3) floats, normalized. The other image of each pair.
        tokens_1: (images, patches, width) floats.
        tokens_2: (images, patches, width) floats.
        grid: Tuple (rows, columns) of patches of all images.
        count: Integer. Maximum number of lines per pair. Defaults to 8.

    Returns:
        A PIL image, one row per pair.

    Example:
        >>> images, tokens = np.zeros((1, 8, 8, 3)), np.eye(4)[None]
        >>> draw_correspondence(images, images, tokens, tokens, (2, 2)).mode
        'RGB'
    """
    rows = []
    for image_1, image_2, own, others in zip(first, second, tokens_1, tokens_2, strict=True):
        left, right = panel(image_1), panel(image_2)
        pairs = mutual_neighbors(own, others, count)
        offset = left.width + 4 * GAP
        lines = []
        for number, (n, m) in enumerate(sorted(pairs)):
            red, green, blue = (round(255 * level) for level in colorsys.hsv_to_rgb(number / len(pairs), 0.9, 0.9))
            color = red, green, blue
            frame_patch(left, grid, n, color)
            frame_patch(right, grid, m, color)
            lines.append((_center(left.size, grid, n), _center(right.size, grid, m), color))
        row = Image.new("RGB", (offset + right.width, max(left.height, right.height)), BACKGROUND)
        row.paste(left, (0, 0))
        row.paste(right, (offset, 0))
        draw = ImageDraw.Draw(row)
        for (x_1, y_1), (x_2, y_2), color in lines:
            draw.line([x_1, y_1, x_2 + offset, y_2], fill=color, width=1)
        rows.append([row])
    return sheet(rows, caption="Patches whose tokens are each other's nearest, the most similar pairs.")


def _center(size, grid, patch):
    left, top, right, bottom = cell(size, grid, patch)
    return (left + right) / 2, (top + bottom) / 2
