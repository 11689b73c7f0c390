"""Images in squares with padding, for detection. Training, evaluation and export share these functions."""

import tensorflow as tf

from keras_siamim.data.images import preprocessing
from keras_siamim.types import Tensor

# Kernel of `preprocessing.resize`: Pillow's bilinear one, which the reference resizes images with.
BILINEAR = "triangle"


def fit_square(image: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Resize an image so that its longer side is that of a square, normalize it, and pad it to the square.

    Resizing is bilinear with antialiasing. The size is that of `dense_augmentation.shortest_edge_size`.

    Args:
        image: `(height, width, 3)` uint8.
        side: Integer. Side of the square in pixels.

    Returns:
        image: `(side, side, 3)` float32, 0 in the padding at the right and bottom.
        size: `(2,)` int32. Height and width of the resized image.

    Example:
    >>> image, size = fit_square(tf.zeros((427, 640, 3), tf.uint8), 1024)
    >>> size.numpy().tolist(), image.shape
    ([683, 1024], TensorShape([1024, 1024, 3]))
    """
    sides = tf.cast(tf.shape(image)[:2], tf.float64)
    # Two multiplications in this order, as in the reference: their rounding decides halves.
    least = tf.reduce_min(sides)
    sides = tf.where(sides == least, tf.constant(side, tf.float64), side / least * sides)
    sides = sides * (side / tf.reduce_max(sides))
    size = tf.maximum(tf.cast(tf.floor(sides + 0.5), tf.int32), 1)
    resized = pad(preprocessing.resize(image[None], size, BILINEAR)[0], (side, side, 3))
    return normalize_unpadded(resized[None], size[None])[0], size


def pad(values: Tensor, shape: tuple[int, ...], value: int = 0) -> Tensor:
    """Pad a tensor at the end of each axis.

    Args:
        values: Tensor whose sides are at most those of `shape`.
        shape: Tuple of integers.
        value: Integer. Value of the padding. Defaults to 0.

    Returns:
        Tensor of that static shape.

    Example:
    >>> pad([1, 2], (4,), -1).numpy().tolist()
    [1, 2, -1, -1]
    """
    padding = [[0, side - given] for side, given in zip(shape, tf.unstack(tf.shape(values)), strict=True)]
    return tf.ensure_shape(tf.pad(values, padding, constant_values=value), shape)


def normalize_unpadded(images: Tensor, sizes: Tensor) -> Tensor:
    """Normalize images, and set their padding to 0.

    Args:
        images: `(batch, height, width, 3)` uint8, padded at the right and bottom.
        sizes: `(batch, 2)` int32. Heights and widths without padding.

    Returns:
        `(batch, height, width, 3)` float32.
    """
    rows, columns = (tf.range(images.shape[1 + axis]) < sizes[:, axis, None] for axis in (0, 1))
    inside = rows[:, :, None, None] & columns[:, None, :, None]
    return tf.where(inside, preprocessing.normalize(images), 0.0)
