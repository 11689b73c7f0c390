"""Normalization of padded batches of images."""

from keras import ops

from keras_siamim.batch import IMAGENET_MEAN, IMAGENET_STD
from keras_siamim.types import Tensor


def normalize_images(images: Tensor, sizes: Tensor) -> Tensor:
    """Standardize uint8 images with ImageNet's mean and standard deviation, and set their padding to 0.

    Args:
        images: (batch, height, width, 3) uint8, or float, which is returned unchanged.
        sizes: (batch, 2) integers. Height and width of the images, without padding.

    Returns:
        (batch, height, width, 3) float32.

    Example:
        >>> from keras_siamim.detection.images import normalize_images
        >>> normalize_images(np.zeros((1, 1, 2, 3), "uint8"), np.array([[1, 1]])).numpy()[..., 0].round(2)
        array([[[-2.12,  0.  ]]], dtype=float32)
    """
    images = ops.convert_to_tensor(images)
    if "float" in str(images.dtype):
        return images
    height, width = (ops.cast(sizes, "int32")[:, axis, None, None] for axis in range(2))
    inside = ops.logical_and(ops.arange(images.shape[1])[:, None] < height, ops.arange(images.shape[2])[None] < width)
    mean, deviation = (ops.convert_to_tensor(255 * value) for value in (IMAGENET_MEAN, IMAGENET_STD))
    return ops.where(inside[..., None], (ops.cast(images, "float32") - mean) / deviation, 0.0)
