"""Random resized crops: random boxes and antialiased bicubic resampling.

The random box is that of torchvision's RandomResizedCrop. Resampling is PIL's: Keys' cubic with a = -0.5, widened by
the scale when the image shrinks, with weights renormalized at the border of the box. PIL also rounds and clips to 8
bits between its two passes. The results therefore differ by 0.1-0.2 gray levels on average, and by a few at hard edges.
"""

from types import ModuleType

import numpy as np

from keras_siamim.data.views.color import HEIGHT, WIDTH, apply_along_axis
from keras_siamim.types import Tensor

TRIES = 10
# Uniform samples per box: flip; area and aspect of each try; top; left.
NUM_SAMPLES = 1 + 2 * TRIES + 2


def draw_crop(
    samples: Tensor,
    height: Tensor,
    width: Tensor,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
    flip_probability: float,
) -> Tensor:
    """Draw one random box per image.

    The first of ten random boxes that fits into the image is taken. If none fits, the box is the largest centered one
    with an aspect in range.

    Args:
        samples: `(..., NUM_SAMPLES)` float32 tensor in [0, 1). Uniform random samples.
        height: `(...)` int32 tensor. Image heights in pixels.
        width: `(...)` int32 tensor. Image widths in pixels.
        area: `(low, high)` floats. Range of the box's share of the image's area.
        aspect: `(low, high)` floats. Range of width / height, sampled log-uniformly.
        flip_probability: float in [0, 1]. Probability of a horizontal flip.

    Returns:
        `(..., 5)` int32 tensor of `(top, left, height, width, flip)`, in pixels of the flipped image.

    Example:
        >>> import tensorflow as tf
        >>> ranges = {"area": (0.5, 0.5), "aspect": (1.0, 1.0), "flip_probability": 0.0}
        >>> samples = tf.fill([1, NUM_SAMPLES], 0.5)
        >>> draw_crop(samples, tf.constant([60]), tf.constant([80]), **ranges).numpy().tolist()
        [[6, 16, 49, 49, 0]]
    """
    import tensorflow as tf

    rows, columns = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    tries = samples[..., 1 : 1 + 2 * TRIES]
    areas = (rows * columns)[..., None] * (area[0] + tries[..., :TRIES] * (area[1] - area[0]))
    aspects = tf.exp(np.log(aspect[0]) + tries[..., TRIES:] * np.log(aspect[1] / aspect[0]))
    widths, heights = tf.round(tf.sqrt(areas * aspects)), tf.round(tf.sqrt(areas / aspects))
    fits = (widths >= 1) & (heights >= 1) & (widths <= columns[..., None]) & (heights <= rows[..., None])
    # Fallback: shorten the longer side to the nearest aspect in range.
    box_width = tf.where(columns > rows * aspect[1], tf.round(rows * aspect[1]), columns)
    box_height = tf.where(columns < rows * aspect[0], tf.round(columns / aspect[0]), rows)
    found = tf.reduce_any(fits, -1)
    first = tf.argmax(tf.cast(fits, tf.int32), -1, output_type=tf.int32)[..., None]
    box_width = tf.where(found, tf.gather(widths, first, batch_dims=first.shape.rank - 1)[..., 0], box_width)
    box_height = tf.where(found, tf.gather(heights, first, batch_dims=first.shape.rank - 1)[..., 0], box_height)
    top = tf.where(found, tf.floor(samples[..., -2] * (rows - box_height + 1)), tf.floor((rows - box_height) / 2))
    left = tf.where(found, tf.floor(samples[..., -1] * (columns - box_width + 1)), tf.floor((columns - box_width) / 2))
    flip = tf.cast(samples[..., 0] < flip_probability, tf.float32)
    return tf.cast(tf.stack([top, left, box_height, box_width, flip], axis=-1), tf.int32)


def crop_and_resize(image: Tensor, crop: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop and resample one image of any size.

    Args:
        image: `(rows, columns, 3)` uint8 tensor. The image.
        crop: `(5,)` int32 tensor `(top, left, height, width, flip)`. Box in pixels of the flipped image.
        size: `(height, width)` ints. Size of the result.

    Returns:
        `(*size, 3)` uint8 tensor.

    Example:
        >>> import tensorflow as tf
        >>> image = tf.zeros((60, 80, 3), tf.uint8)
        >>> tuple(crop_and_resize(image, tf.constant([6, 16, 49, 49, 1]), (32, 32)).shape)
        (32, 32, 3)
    """
    import tensorflow as tf

    top, left, height, width, flip = tf.unstack(crop)
    # The box is moved to its position in the unflipped image, so that only the small result has to be mirrored.
    left = tf.where(flip == 1, tf.shape(image)[1] - left - width, left)
    resized = resize(crop_box(image, top, left, height, width), size)
    # `tf.reverse` takes a tenth of the time of a slice with a negative step.
    return tf.cond(flip == 1, lambda: tf.reverse(resized, [1]), lambda: resized)


def crop_box(image: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Crop one image to a box.

    Args:
        image: `(rows, columns, 3)` tensor. The image.
        top: int or int32 scalar. First row, in pixels.
        left: int or int32 scalar. First column, in pixels.
        height: int or int32 scalar. Rows of the box.
        width: int or int32 scalar. Columns of the box.

    Returns:
        `(height, width, 3)` tensor.

    Example:
        >>> tuple(crop_box(np.zeros((60, 80, 3), "uint8"), 6, 16, 49, 40).shape)
        (49, 40, 3)
    """
    import tensorflow as tf

    # TensorFlow slices rows of bytes much faster than pixels of three channels.
    rows = tf.reshape(image, (tf.shape(image)[0], -1))
    return tf.reshape(tf.slice(rows, [top, 3 * left], [height, 3 * width]), (height, width, 3))


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample one image with `preprocessing.resize`.

    Args:
        image: `(height, width, 3)` uint8 tensor. The image, of any size.
        size: `(height, width)` ints. Size of the result.

    Returns:
        `(*size, 3)` uint8 tensor.

    Example:
        >>> import tensorflow as tf
        >>> tuple(resize(tf.zeros((60, 80, 3), tf.uint8), (32, 48)).shape)
        (32, 48, 3)
    """
    from keras_siamim.data.images import preprocessing  # needs TensorFlow

    return preprocessing.resize(image[None], size)[0]


def crop_and_resize_equal(ops: ModuleType, image: Tensor, crops: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop, flip and resample a batch of images of one size by two matrix products.

    Args:
        ops: Module. `tensorflow` or `keras.ops`.
        image: `(batch, height, 3, width)` float32 in [0, 255]. Bands, see `keras_siamim.data.views.color`.
        crops: `(batch, 5)` int32 `(top, left, height, width, flip)`. One box per image, in pixels of the flipped image.
        size: `(height, width)` ints. Size of the result.

    Returns:
        Bands, `(batch, size[0], 3, size[1])` float32, rounded to whole gray levels.

    Example:
        >>> image, boxes = np.zeros((2, 60, 3, 80), "float32"), np.array([[6, 16, 49, 49, 1]] * 2)
        >>> tuple(crop_and_resize_equal(keras.ops, image, boxes, (32, 48)).shape)
        (2, 32, 3, 48)
    """
    boxes = ops.cast(crops, "float32")
    top, left, height, width, flip = (boxes[:, k] for k in range(5))
    rows = cubic_matrix(ops, image.shape[HEIGHT], size[0], top, height, ops.zeros_like(flip))
    columns = cubic_matrix(ops, image.shape[WIDTH], size[1], left, width, flip)
    resized = apply_along_axis(ops, apply_along_axis(ops, image, rows, HEIGHT), columns, WIDTH)
    return ops.minimum(ops.maximum(ops.floor(resized + 0.5), 0.0), 255.0)


def cubic_matrix(ops: ModuleType, size_in: int, size_out: int, start: Tensor, length: Tensor, flip: Tensor) -> Tensor:
    """Return the weights that resample one axis of a box.

    Args:
        ops: Module. `tensorflow` or `keras.ops`.
        size_in: int. Pixels of the complete image along the axis.
        size_out: int. Pixels of the result.
        start: `(batch,)` float32. First pixel of the box, in the flipped image if `flip` is 1.
        length: `(batch,)` float32. Pixels of the box.
        flip: `(batch,)` float32. 1 to mirror the axis, 0 to keep it.

    Returns:
        `(batch, size_out, size_in)` float32; every row sums to 1.

    Example:
        >>> start, length, flip = np.array([[0], [4], [0]], "float32")
        >>> bool(np.allclose(cubic_matrix(keras.ops, 4, 4, start, length, flip)[0], np.eye(4)))
        True
    """
    start, length, flip = (values[:, None, None] for values in (start, length, flip))
    scale = length / float(size_out)
    narrowing = 1.0 / ops.maximum(scale, 1.0)
    center = start + (ops.cast(np.arange(size_out, dtype="float32")[:, None] + 0.5, "float32")) * scale
    pixel = ops.cast(np.arange(size_in, dtype="float32") + 0.5, "float32")
    pixel = pixel + flip * (float(size_in) - 2.0 * pixel)
    distance = ops.abs(pixel - center) * narrowing
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    weights = ops.where(distance < 1.0, near, ops.where(distance < 2.0, far, ops.zeros_like(far)))
    inside = (pixel > start) & (pixel < start + length)
    weights = ops.where(inside, weights, ops.zeros_like(weights))
    return weights * (1.0 / ops.einsum("bij->bi", weights)[:, :, None])
