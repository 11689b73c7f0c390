"""Random resized crops: which box, and its antialiased bicubic resampling.

The box follows torchvision's RandomResizedCrop. Resampling is PIL's: Keys' cubic with a = -0.5, widened by the scale
when the image shrinks, weights renormalized at the border of the box. It differs from PIL only by PIL's 8-bit
rounding and clipping between its two passes: 0.1-0.2 gray levels on average, a few beside hard edges.
"""

import numpy as np

from keras_siamim.data.views.color import HEIGHT, WIDTH, apply_along_axis

TRIES = 10
# Uniform numbers that a box takes: flip, area and aspect of each try, top, left.
NUMBERS = 1 + 2 * TRIES + 2


def draw_crop(numbers, height, width, *, area, aspect, flip_probability):
    """Choose a box in each image; the first of ten tries that fits, else the largest central one of a legal aspect.

    Args:
        numbers: `(..., NUMBERS)` float32 in [0, 1), a tensor.
        height: `(...)` int32, image height in pixels, a tensor.
        width: `(...)` int32, image width in pixels, a tensor.
        area: `(low, high)` share of the image's area.
        aspect: `(low, high)` width / height, drawn uniformly in its logarithm.
        flip_probability: 0...1.

    Returns:
        `(..., 5)` int32 tensor of `(top, left, height, width, flip)`, in pixels of the flipped image.
    """
    import tensorflow as tf

    rows, columns = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    tries = numbers[..., 1 : 1 + 2 * TRIES]
    areas = (rows * columns)[..., None] * (area[0] + tries[..., :TRIES] * (area[1] - area[0]))
    aspects = tf.exp(np.log(aspect[0]) + tries[..., TRIES:] * np.log(aspect[1] / aspect[0]))
    widths, heights = tf.round(tf.sqrt(areas * aspects)), tf.round(tf.sqrt(areas / aspects))
    fits = (widths >= 1) & (heights >= 1) & (widths <= columns[..., None]) & (heights <= rows[..., None])
    # Fallback: shorten the longer side to the nearest legal aspect.
    box_width = tf.where(columns > rows * aspect[1], tf.round(rows * aspect[1]), columns)
    box_height = tf.where(columns < rows * aspect[0], tf.round(columns / aspect[0]), rows)
    found = tf.reduce_any(fits, -1)
    first = tf.argmax(tf.cast(fits, tf.int32), -1, output_type=tf.int32)[..., None]
    box_width = tf.where(found, tf.gather(widths, first, batch_dims=first.shape.rank - 1)[..., 0], box_width)
    box_height = tf.where(found, tf.gather(heights, first, batch_dims=first.shape.rank - 1)[..., 0], box_height)
    top = tf.where(found, tf.floor(numbers[..., -2] * (rows - box_height + 1)), tf.floor((rows - box_height) / 2))
    left = tf.where(found, tf.floor(numbers[..., -1] * (columns - box_width + 1)), tf.floor((columns - box_width) / 2))
    flip = tf.cast(numbers[..., 0] < flip_probability, tf.float32)
    return tf.cast(tf.stack([top, left, box_height, box_width, flip], axis=-1), tf.int32)


def crop_and_resize(image, crop, size):
    """Cut and resample one image of any size.

    Args:
        image: `(height, width, 3)` uint8 tensor.
        crop: `(5,)` int32 tensor.
        size: `(height, width)` of the result.

    Returns:
        `(*size, 3)` uint8 tensor.
    """
    import tensorflow as tf

    top, left, height, width, flip = tf.unstack(crop)
    # The box of the flipped image, in the unflipped one: so only the small result has to be mirrored.
    left = tf.where(flip == 1, tf.shape(image)[1] - left - width, left)
    resized = resize(cut_box(image, top, left, height, width), size)
    # A slice with a negative step takes ten times as long.
    return tf.cond(flip == 1, lambda: tf.reverse(resized, [1]), lambda: resized)


def cut_box(image, top, left, height, width):
    """Cut a box out of one image, in whole rows of bytes: TensorFlow is slow at slices of three channels.

    Args:
        image: `(rows, columns, 3)` tensor.
        top: int or int32 scalar, as are the next three, in pixels.
        left: first column.
        height: rows of the box.
        width: columns of the box.

    Returns:
        `(height, width, 3)` tensor.
    """
    import tensorflow as tf

    rows = tf.reshape(image, (tf.shape(image)[0], -1))
    return tf.reshape(tf.slice(rows, [top, 3 * left], [height, 3 * width]), (height, width, 3))


def resize(image, size):
    """Resample one image of any size, `(height, width, 3)` uint8: see `preprocessing.resize`."""
    from keras_siamim.data.images import preprocessing  # needs TensorFlow

    return preprocessing.resize(image[None], size)[0]


def crop_and_resize_equal(ops, image, crops, size):
    """Cut and resample a batch of images of one size: two matrix products, the flip included.

    Args:
        ops: `tensorflow` or `keras.ops`.
        image: bands, `(batch, height, 3, width)` float32 of 0...255.
        crops: `(batch, 5)` int32.
        size: `(height, width)` of the result.

    Returns:
        Bands, `(batch, size[0], 3, size[1])` float32, rounded to whole gray levels.
    """
    numbers = ops.cast(crops, "float32")
    top, left, height, width, flip = (numbers[:, k] for k in range(5))
    rows = cubic_matrix(ops, image.shape[HEIGHT], size[0], top, height, ops.zeros_like(flip))
    columns = cubic_matrix(ops, image.shape[WIDTH], size[1], left, width, flip)
    resized = apply_along_axis(ops, apply_along_axis(ops, image, rows, HEIGHT), columns, WIDTH)
    return ops.minimum(ops.maximum(ops.floor(resized + 0.5), 0.0), 255.0)


def cubic_matrix(ops, size_in, size_out, start, length, flip):
    """Weights that resample one axis of a box.

    Args:
        ops: `tensorflow` or `keras.ops`.
        size_in: pixels of the whole image along the axis.
        size_out: pixels of the result.
        start: `(batch,)` float32, first pixel of the box, in the flipped image if `flip` is 1.
        length: `(batch,)` float32, pixels of the box.
        flip: `(batch,)` float32, 1 to mirror the axis.

    Returns:
        `(batch, size_out, size_in)` float32, every row summing to 1.
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
