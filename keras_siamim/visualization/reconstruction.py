"""Reconstruction of masked pixels."""

import numpy as np
from PIL import Image

from keras_siamim.visualization.layout import cover_patches, panel, sheet


def patches_of(images: np.ndarray, patch_size: int) -> np.ndarray:
    """Split images (images, height, width, 3) into patches (images, patches, patch_size ** 2 * 3), row by row."""
    count, height, width, channels = images.shape
    rows, columns = height // patch_size, width // patch_size
    parts = images.reshape(count, rows, patch_size, columns, patch_size, channels).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(count, rows * columns, -1)


def images_of(patches: np.ndarray, grid: tuple[int, int], patch_size: int) -> np.ndarray:
    """Join patches (images, patches, patch_size ** 2 * 3) to images (images, height, width, 3).

    Example:
        >>> images = np.arange(96.0).reshape(1, 8, 4, 3)
        >>> bool((images_of(patches_of(images, 2), (4, 2), 2) == images).all())
        True
    """
    (rows, columns), count = grid, len(patches)
    parts = patches.reshape(count, rows, columns, patch_size, patch_size, -1).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(count, rows * patch_size, columns * patch_size, -1)


def reconstruct(
    images: np.ndarray, prediction: np.ndarray, masked: np.ndarray, patch_size: int, normalized: bool
) -> np.ndarray:
    """Return images whose masked patches are predicted pixels.

    Args:
        images: (images, height, width, 3) floats, normalized.
        prediction: (images, patches, patch_size ** 2 * 3) floats.
        masked: (images, patches) bool.
        patch_size: Integer.
        normalized: Bool. True if a prediction has zero mean and unit variance per patch. Mean and deviation of the
            true patch are then used, since the model does not predict them.

    Returns:
        (images, height, width, 3) floats.
    """
    patches = patches_of(images, patch_size)
    if normalized:
        deviation = patches.std(axis=-1, keepdims=True, ddof=1)
        prediction = prediction * np.sqrt(deviation**2 + 1e-6) + patches.mean(axis=-1, keepdims=True)
    grid = images.shape[1] // patch_size, images.shape[2] // patch_size
    return images_of(np.where(masked[..., None], prediction, patches), grid, patch_size)


def draw_reconstruction(
    images: np.ndarray, prediction: np.ndarray, masked: np.ndarray, patch_size: int, normalized: bool
) -> Image.Image:
    """Draw images, their visible patches, and the reconstruction of the masked ones; arguments as in `reconstruct`.

    Returns:
        A PIL image, one row per image.

    Example:
        >>> images, masked = np.zeros((1, 8, 8, 3)), np.array([[True, False, True, True]])
        >>> draw_reconstruction(images, np.zeros((1, 4, 48)), masked, patch_size=4, normalized=True).mode
        'RGB'
    """
    grid = images.shape[1] // patch_size, images.shape[2] // patch_size
    rebuilt = reconstruct(images, prediction, masked, patch_size, normalized)
    rows = [
        [panel(image), cover_patches(panel(image), grid, np.flatnonzero(hidden)), panel(result)]
        for image, hidden, result in zip(images, masked, rebuilt, strict=True)
    ]
    caption = "Masked patches and their reconstruction; visible patches are those of the image."
    if normalized:
        caption += " Mean and contrast of each patch are the true ones, since the model predicts normalized pixels."
    return sheet(rows, ["image", "masked", "reconstruction"], caption)
