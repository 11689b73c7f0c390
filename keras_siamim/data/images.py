"""From encoded bytes to RGB pixels, by one stated rule for every format.

| what the file holds | what becomes of it |
|---|---|
| JPEG, PNG, BMP, GIF, WebP, TIFF and whatever else PIL reads | decoded by content; the file's name says nothing |
| grey | repeated to three channels |
| palette | its colours |
| transparency | laid over white |
| CMYK | PIL's conversion to RGB |
| 16 bits a channel | the high byte |
| 32-bit integers or floats | values clipped to 0...255 |
| several frames | the first |
| EXIF orientation | applied, so that the image stands upright |
| more than 80 million pixels | refused before they are decoded |
| less than the whole image, or what no decoder takes | refused |

Plain 8-bit JPEG and PNG, nearly all of a usual set, are decoded by TensorFlow without leaving the graph; everything
else goes through PIL.
"""

import io
import math
import re

import numpy as np
import tensorflow as tf

from keras_siamim.data import crops, headers

# 240 MB decoded; below the size at which PIL begins to warn.
PIXEL_LIMIT = 80_000_000


def decode(encoded):
    """Decode one image.

    Args:
        encoded: scalar string tensor, a file's bytes.

    Returns:
        `(height, width, 3)` uint8 tensor.

    Raises:
        tf.errors.OpError: bytes that are no whole image; in eager mode PIL's own errors too. `refusal` says why.
    """
    encoded = tf.convert_to_tensor(encoded)
    jpeg, png = (is_plain(encoded, PIXEL_LIMIT) for is_plain in (headers.is_plain_jpeg, headers.is_plain_png))
    image = tf.cond(
        jpeg | png,
        lambda: _decode_plain(encoded),
        lambda: tf.numpy_function(decode_with_pillow, [encoded], tf.uint8),
    )
    return tf.ensure_shape(image, (None, None, 3))


def decode_equal(encoded, shape):
    """Decode many images of one size.

    Args:
        encoded: `(images,)` string tensor.
        shape: `(height, width)` of all.

    Returns:
        `(images, *shape, 3)` uint8 tensor.

    Raises:
        tf.errors.OpError: some image has another size, or can't be decoded.
    """
    # Plain images share one look at their headers; a look at each costs more than decoding it.
    plain = tf.reduce_all(headers.are_plain(encoded, shape))
    # A loop's turn costs half as much as decoding a small image: so several are decoded in every turn.
    together = math.gcd(encoded.shape[0] or 1, 16)
    return tf.cond(plain, lambda: _each(_decode_plain, encoded, shape, together), lambda: _each(decode, encoded, shape))


def _each(decode, encoded, shape, together=1):
    signature = tf.TensorSpec((together, *shape, 3), tf.uint8)

    def some(encoded):
        return tf.stack([tf.ensure_shape(decode(one), (*shape, 3)) for one in tf.unstack(encoded)])

    decoded = tf.map_fn(some, tf.reshape(encoded, (-1, together)), fn_output_signature=signature)
    return tf.reshape(decoded, (-1, *shape, 3))


def _decode_plain(encoded):
    # Of PNG as well.
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def refusal(encoded, shape=None):
    """Say why bytes can't be decoded to an image of some shape.

    Args:
        encoded: bytes.
        shape: `(height, width)`, or None for any.

    Returns:
        A line of text, or None if they can.

    Example:
    >>> from keras_siamim.data import images
    >>> images.refusal(b""), images.refusal(b"<html>")
    ('empty file', 'no image, or of an unknown format')
    """
    try:
        found = tuple(decode(tf.constant(encoded)).shape[:2])
    except Exception as error:  # noqa: BLE001  no decoder promises a kind of error
        return reason_of(error)
    if shape not in (None, found):
        return "{} x {} pixels where all should have {} x {}".format(*found[::-1], *shape[::-1])
    return None


def reason_of(error):
    """Why an image could not be read, in one line: of TensorFlow's errors the first, without the graph's names."""
    if not isinstance(error, tf.errors.OpError):
        return f"{error}" or type(error).__name__
    line = re.sub(r"\{\{.*?\}\}|\[Op:.*|name: *$", "", error.message.splitlines()[0])
    return line.strip().rstrip(".")


def decode_with_pillow(encoded):
    """Decode one image by PIL and the module's rules: bytes to a `(height, width, 3)` uint8 array."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if isinstance(encoded, np.ndarray):  # an array of one object: so `tf.numpy_function` gives it in eager mode
        encoded = encoded.item()
    if not encoded:
        raise ValueError("empty file")
    try:
        opened = Image.open(io.BytesIO(encoded))
    except UnidentifiedImageError:
        raise ValueError("no image, or of an unknown format") from None
    with opened:
        if opened.width * opened.height > PIXEL_LIMIT:
            raise ValueError(f"{opened.width} x {opened.height} pixels, more than {PIXEL_LIMIT:,}")
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I;16"):
            return _repeated(np.asarray(image).astype(np.uint16) >> 8)
        if image.mode in ("I", "F"):
            values = np.asarray(image)
            # PIL opens some 16-bit files as 32-bit integers.
            return _repeated(values >> 8 if opened.format == "PNG" else np.clip(values, 0, 255))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(image.convert("RGB"))


def shape_of(encoded):
    """Height and width of the upright image from its header alone; None if it can't be read.

    Args:
        encoded: bytes.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            # Orientations from 5 on lie on their side.
            turned = image.getexif().get(0x0112, 1) >= 5
            return image.size if turned else image.size[::-1]
    except Exception:  # noqa: BLE001
        return None


def _repeated(grey):
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)


def resize_and_centre(image, size, resize):
    """Resize so that the image covers a frame, and cut the middle: what evaluations look at.

    Args:
        image: `(height, width, 3)` uint8 tensor.
        size: `(height, width)` of the result.
        resize: `(height, width)` to cover, at least `size`; the usual one is `size / 0.875`.

    Returns:
        `(*size, 3)` uint8 tensor; bicubic, antialiased.
    """
    given = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = tf.reduce_max(tf.cast(resize, tf.float32) / given)
    # As torchvision: the shorter side exactly, the longer one cut to a whole number of pixels.
    covered = tf.maximum(tf.cast(tf.floor(given * scale + 1e-3), tf.int32), resize)
    resized = crops.resize(image, covered)
    corner = tf.cast(tf.round(tf.cast(covered - size, tf.float32) / 2), tf.int32)
    return crops.cut_box(resized, corner[0], corner[1], *size)


def image_array(images):
    """Bring a NumPy array of images to uint8 RGB, or say what is wrong with it.

    Args:
        images: `(images, height, width, channels)` or `(images, height, width)`; uint8, uint16 (the high byte is
            kept), floats of 0...1, or other integers of 0...255; 1 channel is repeated, 3 are taken.

    Returns:
        `(images, height, width, 3)` uint8.
    """
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"images must be (images, height, width) or (images, height, width, 1 or 3); received shape {images.shape}."
        )
    if 0 in images.shape:
        raise ValueError(f"images must not be empty; received shape {images.shape}.")
    if images.dtype == np.uint16:
        images = (images >> 8).astype(np.uint8)
    elif images.dtype != np.uint8:
        images = _bytes_of(images)
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def _bytes_of(images):
    if not (np.issubdtype(images.dtype, np.integer) or np.issubdtype(images.dtype, np.floating)):
        raise ValueError(f"images must be of integers or floats; received dtype {images.dtype}.")
    low, high = images.min(), images.max()
    limit = 1 if np.issubdtype(images.dtype, np.floating) else 255
    # Written so that NaN fails too.
    if not (low >= 0 and high <= limit):
        raise ValueError(f"images of dtype {images.dtype} must lie within 0...{limit}; received {low}...{high}.")
    return np.rint(images * 255.0).astype(np.uint8) if limit == 1 else images.astype(np.uint8)
