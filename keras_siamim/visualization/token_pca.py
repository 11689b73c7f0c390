"""Patch tokens as colors: their first three principal components."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_siamim.visualization.layout import panel, sheet


class ColorBasis(NamedTuple):
    """Map from tokens to colors.

    Attributes:
        mean: (width,) float64.
        components: (width, 3) float64. Principal components.
        low: (3,) float64. Coordinates of color 0.
        high: (3,) float64. Coordinates of color 1.
    """

    mean: np.ndarray
    components: np.ndarray
    low: np.ndarray
    high: np.ndarray


def fit_color_basis(tokens: np.ndarray) -> ColorBasis:
    """Fit the colors of tokens: red, green and blue are the first three principal components.

    Each component is scaled so that its 2nd percentile is dark and its 98th is bright, and oriented so that its
    largest entry is positive.

    Args:
        tokens: (..., width) floats, width 3 or more.

    Raises:
        ValueError: If the tokens have fewer than three channels.

    Example:
        >>> fit_color_basis(np.random.default_rng(0).normal(size=(20, 4))).components.shape
        (4, 3)
    """
    if tokens.shape[-1] < 3:
        raise ValueError(f"`tokens` must have 3 or more channels. Received: {tokens.shape[-1]}.")
    rows = np.asarray(tokens, "float64").reshape(-1, tokens.shape[-1])
    mean = rows.mean(axis=0)
    _, vectors = np.linalg.eigh((rows - mean).T @ (rows - mean))
    components = vectors[:, -3:][:, ::-1]
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=0)[None], axis=0)
    components = components * np.where(largest < 0, -1, 1)
    low, high = np.percentile((rows - mean) @ components, [2, 98], axis=0)
    return ColorBasis(mean, components, low, high)


def token_colors(tokens: np.ndarray, grid: tuple[int, int], basis: ColorBasis) -> np.ndarray:
    """Return one color per patch.

    Args:
        tokens: (images, rows * columns, width) floats.
        grid: Tuple (rows, columns).
        basis: `ColorBasis`.

    Returns:
        (images, rows, columns, 3) uint8.

    Example:
        >>> tokens = np.random.default_rng(0).normal(size=(2, 6, 4))
        >>> token_colors(tokens, (2, 3), fit_color_basis(tokens)).shape
        (2, 2, 3, 3)
    """
    coordinates = (np.asarray(tokens, "float64") - basis.mean) @ basis.components
    shares = np.clip((coordinates - basis.low) / np.maximum(basis.high - basis.low, 1e-12), 0, 1)
    return np.rint(255 * shares).astype("uint8").reshape(len(tokens), *grid, 3)


def draw_token_pca(images: np.ndarray, maps: Sequence[tuple[np.ndarray, tuple[int, int]]]) -> Image.Image:
    """Draw images beside the colors of their patch tokens, with one basis of colors for all of them.

    Args:
        images: (images, height, width, 3) floats, normalized.
        maps: Sequence of (tokens, grid), one per resolution: tokens (images, rows * columns, width) floats.

    Returns:
        A PIL image, one row per image.

    Example:
        >>> images, tokens = np.zeros((2, 8, 8, 3)), np.random.default_rng(0).normal(size=(2, 4, 5))
        >>> draw_token_pca(images, [(tokens, (2, 2))]).mode
        'RGB'
    """
    width = maps[0][0].shape[-1]
    basis = fit_color_basis(np.concatenate([tokens.reshape(-1, width) for tokens, _ in maps]))
    columns = [token_colors(tokens, grid, basis) for tokens, grid in maps]
    rows = [[panel(image), *(panel(column[n]) for column in columns)] for n, image in enumerate(images)]
    titles = ["image", *(f"{grid[0]} x {grid[1]} patches" for _, grid in maps)]
    caption = "Patch tokens as colors: their first three principal components, the same for all images."
    return sheet(rows, titles, caption)
