"""Images in the graph: encoded bytes to pixels, pixels of any size to what an encoder takes. Needs TensorFlow.

| format | decoded | orientation |
|---|---|---|
| JPEG | yes, also grey and CMYK | EXIF honoured |
| PNG | yes; transparency dropped, 16 bits to 8 | as stored |
| GIF | first frame | as stored |
| BMP | yes | as stored |
| WebP | yes, still images | as stored |
"""

import numpy as np
import tensorflow as tf

from keras_siamim.batch import IMAGENET_MEAN, IMAGENET_STD

FORMATS = "JPEG, PNG, GIF, BMP or WebP"

# The EXIF block's mark, its byte order, and the entry of IFD 0 that says: orientation, one short, this value. RE2 reads
# patterns as UTF-8, so they hold ASCII bytes only; \C is any byte.
_ORIENTATION = (
    rb"\C*?Exif\x00\x00(?:MM\C*?\x01\x12\x00\x03\x00\x00\x00\x01\x00([\x01-\x08])"
    rb"|II\C*?\x12\x01\x03\x00\x01\x00\x00\x00([\x01-\x08])\x00)\C*"
)
_EXIF_REACH = 4096  # bytes; the block is the first of a file


def decode_batch(encoded, size, crop_fraction):
    """Decode images, stand them upright and bring them to one size.

    Args:
        encoded: (batch,) string tensor, one file's bytes each.
        size: (height, width) of the result.
        crop_fraction: See `fit`.

    Returns:
        (batch, height, width, 3) uint8.

    Raises:
        tf.errors.InvalidArgumentError: On running, if an element is no image of a known format.
    """
    known = _known_format(encoded)
    check = tf.debugging.Assert(
        tf.reduce_all(known),
        [f"`image_bytes` must hold encoded {FORMATS} files. These elements are none:", tf.where(~known)[:, 0]],
        summarize=16,
    )
    with tf.control_dependencies([] if check is None else [check]):
        encoded = tf.identity(encoded)
    return tf.map_fn(
        lambda one: fit(decode(one)[None], size, crop_fraction)[0],
        encoded,
        fn_output_signature=tf.TensorSpec((*size, 3), tf.uint8),
    )


def _known_format(encoded):
    """Which elements of (batch,) strings begin as a file of a known format does: (batch,) bool."""
    padded = tf.strings.join([encoded, b"\0" * 12])
    starts = [(0, b"\xff\xd8\xff"), (0, b"\x89PNG"), (0, b"GIF8"), (0, b"BM"), (8, b"WEBP")]
    found = [tf.equal(tf.strings.substr(padded, at, len(mark)), mark) for at, mark in starts]
    return tf.reduce_any(tf.stack(found), axis=0)


def decode(encoded):
    """One file's bytes, a string scalar, to an upright (height, width, 3) uint8 image."""

    def jpeg():
        image = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
        return upright(image, exif_orientation(encoded))

    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, 3), b"\xff\xd8\xff")
    image = tf.cond(is_jpeg, jpeg, lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False))
    return tf.ensure_shape(image, (None, None, 3))


def exif_orientation(encoded):
    """EXIF orientation 1...8 of a JPEG file's bytes, a string scalar; 1 where it says none. An int32 scalar."""
    header = tf.strings.substr(encoded, 0, _EXIF_REACH)
    value = tf.cond(
        tf.strings.regex_full_match(header, _ORIENTATION),
        lambda: tf.strings.regex_replace(header, _ORIENTATION, rb"\1\2", replace_global=False),
        lambda: tf.constant(b"\x01"),
    )
    return tf.cast(tf.io.decode_raw(value, tf.uint8)[0], tf.int32)


def upright(image, orientation):
    """Undo an EXIF orientation: (height, width, 3) to the same, or with the sides exchanged."""

    def where(cases, change, x):
        return tf.cond(tf.reduce_any(tf.equal(orientation, cases)), lambda: change(x), lambda: x)

    image = where([5, 6, 7, 8], lambda x: tf.transpose(x, (1, 0, 2)), image)
    image = where([2, 3, 6, 7], lambda x: tf.reverse(x, [1]), image)
    return where([3, 4, 7, 8], lambda x: tf.reverse(x, [0]), image)


def fit(images, size, crop_fraction):
    """Resize images to cover a frame (bicubic, antialiased) and cut the middle; images of that size stay as they are.

    Args:
        images: (batch, height, width, 3) uint8 of any size.
        size: (height, width) of the result.
        crop_fraction: Side of the result over that of the frame; 0.875 is "resize 256, crop 224".

    Returns:
        (batch, *size, 3) uint8.
    """
    frame = np.round(np.array(size) / crop_fraction).astype("int32")
    given = tf.shape(images)[1:3]
    scale = tf.reduce_max(tf.cast(frame, tf.float32) / tf.cast(given, tf.float32))
    covered = tf.maximum(tf.cast(tf.floor(tf.cast(given, tf.float32) * scale + 1e-3), tf.int32), frame)
    resized = tf.image.resize(images, covered, method="bicubic", antialias=True)
    corner = (covered - np.array(size, "int32")) // 2
    cut = tf.slice(resized, tf.concat([[0], corner, [0]], 0), [-1, *size, 3])
    return tf.saturate_cast(tf.round(cut), tf.uint8)


def normalize(images):
    """(batch, height, width, 3) uint8 to float32 of ImageNet's zero mean and unit variance."""
    return (tf.cast(images, tf.float32) / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
