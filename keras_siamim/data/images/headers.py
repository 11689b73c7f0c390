"""Detection of plain images by their first bytes: 8-bit JPEG and PNG that TensorFlow decodes without further steps.

A plain JPEG is gray or RGB. A plain PNG is gray or RGB, without a transparent color. Both have no orientation and at
most a given number of pixels.
"""

import tensorflow as tf

from keras_siamim.data.images import preprocessing
from keras_siamim.types import Tensor

# Metadata that TensorFlow's decoders ignore: the orientation, and a PNG's transparent color.
SPECIAL = rb"\C*(Exif\x00\x00|eXIf|tRNS|tiff:Orientation|Raw profile type )\C*"
# Scan limits of `are_plain` for a JPEG. Longer headers, with color profiles, are reported as not plain.
SEGMENTS, SEGMENT_BYTES = 14, 1024
START_OF_SCAN, EXIF_OR_XMP = 0xDA, 0xE1
# Baseline, extended and progressive frames, and the frames that decoders refuse. The other kinds are tables.
FRAMES, OTHER_FRAMES = (0xC0, 0xC1, 0xC2), (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
# Color types of a PNG: gray, RGB.
PNG_KINDS = (0, 2)


def is_plain_jpeg(encoded: Tensor, limit: int) -> Tensor:
    """Return True if a file is a plain JPEG.

    Args:
        encoded: Scalar string tensor. The bytes of a file.
        limit: Integer. Maximum number of pixels.

    Returns:
        bool scalar tensor.

    Example:
    >>> pixels = np.zeros((8, 6, 3), "uint8")
    >>> bool(is_plain_jpeg(tf.io.encode_jpeg(pixels), 48)), bool(is_plain_jpeg(tf.io.encode_jpeg(pixels), 47))
    (True, False)
    """

    def plain() -> Tensor:
        return ~tf.strings.regex_full_match(preprocessing.jpeg_metadata(encoded), SPECIAL)

    return tf.cond(is_readable_jpeg(encoded, limit), plain, lambda: tf.constant(False))


def is_readable_jpeg(encoded: Tensor, limit: int) -> Tensor:
    """Return True if a file is a JPEG of 8 bits in gray or RGB, with at most `limit` pixels: bool scalar tensor."""

    def readable() -> Tensor:
        height, width, components = tf.unstack(tf.image.extract_jpeg_shape(encoded, tf.int64))
        return (components < 4) & (height * width <= limit)

    header = tf.strings.substr(encoded, 0, preprocessing.HEADER)
    jpeg = preprocessing.starts_with(encoded, preprocessing.JPEG_START)
    # TensorFlow fails to read the shape of a 12-bit JPEG.
    jpeg &= ~tf.strings.regex_full_match(header, preprocessing.TWELVE_BITS)
    return tf.cond(jpeg, readable, lambda: tf.constant(False))


def is_readable_png(encoded: Tensor, limit: int) -> Tensor:
    """Return True if a file is a PNG with at most `limit` pixels: bool scalar tensor."""
    start = tf.strings.substr(encoded, 0, 26)

    def readable() -> Tensor:
        # Bytes [16, 24) of a PNG are its width and height.
        width, height = tf.unstack(tf.reshape(tf.io.decode_raw(tf.strings.substr(start, 16, 8), tf.int32, False), [2]))
        return (width > 0) & (height > 0) & (tf.cast(width, tf.int64) * tf.cast(height, tf.int64) <= limit)

    png = preprocessing.starts_with(encoded, preprocessing.PNG_START) & (tf.strings.length(start) == 26)
    return tf.cond(png, readable, lambda: tf.constant(False))


def is_plain_png(encoded: Tensor, limit: int) -> Tensor:
    """Return True if a file is a plain PNG.

    Args:
        encoded: Scalar string tensor. The bytes of a file.
        limit: Integer. Maximum number of pixels.

    Returns:
        bool scalar tensor.

    Example:
    >>> gray, transparent = np.zeros((8, 6, 1), "uint8"), np.zeros((8, 6, 4), "uint8")
    >>> bool(is_plain_png(tf.io.encode_png(gray), 48)), bool(is_plain_png(tf.io.encode_png(transparent), 48))
    (True, False)
    """

    def plain() -> Tensor:
        # Bytes 24 and 25 of a PNG are its depth and color type; palettes and alpha need further steps.
        kind = tf.strings.substr(encoded, 24, 2)
        return tf.reduce_any(kind == [b"\x08\x00", b"\x08\x02"]) & ~tf.strings.regex_full_match(encoded, SPECIAL)

    return tf.cond(is_readable_png(encoded, limit), plain, lambda: tf.constant(False))


def are_plain(encoded: Tensor, shape: tuple[int, int]) -> Tensor:
    """Detect the plain images of one size in a batch of files, vectorized.

    Args:
        encoded: `(files,)` string tensor.
        shape: `(height, width)`.

    Returns:
        `(files,)` bool tensor. Some plain images with long headers are False too.

    Example:
    >>> are_plain([tf.io.encode_png(np.zeros((8, 6, 3), "uint8")), b"text"], (8, 6)).numpy().tolist()
    [True, False]
    """
    start = tf.io.decode_raw(tf.strings.substr(encoded, 0, SEGMENT_BYTES), tf.uint8, fixed_length=SEGMENT_BYTES)
    png = _are_png(start, shape)
    png &= ~tf.strings.regex_full_match(tf.where(png, encoded, ""), SPECIAL)
    return png | _are_jpeg(start, shape)


def _are_png(start: Tensor, shape: tuple[int, int]) -> Tensor:
    sides = b"".join(side.to_bytes(4, "big") for side in shape[::-1])
    return _starts_with(start, PNG_START + sides + b"\x08") & _is_in(start[:, 25], PNG_KINDS)


def _are_jpeg(start: Tensor, shape: tuple[int, int]) -> Tensor:
    # Walks the segments by their lengths, as a decoder does, so that a segment's content is never read as a segment.
    offset = tf.fill(tf.shape(start)[:1], 2)
    offsets = []
    for _ in range(SEGMENTS):
        offsets.append(offset)
        length = tf.cast(tf.gather(start, offset[:, None] + [2, 3], batch_dims=1), tf.int32)
        offset = tf.minimum(offset + 2 + 256 * length[:, 0] + length[:, 1], SEGMENT_BYTES - 10)
    # The first ten bytes of every segment: mark, kind and length; in a frame then depth, sides and components.
    segments = tf.gather(start, tf.stack(offsets, 1)[:, :, None] + tf.range(10), batch_dims=1)
    mark, kind, components = segments[..., 0], segments[..., 1], segments[..., 9]
    scan = kind == START_OF_SCAN
    before = tf.cumsum(tf.cast(scan, tf.int32), 1) == 0
    sides = b"".join(side.to_bytes(2, "big") for side in shape)
    fits = _starts_with(segments[..., 4:], b"\x08" + sides) & _is_in(components, (1, 3))
    frame = _is_in(kind, FRAMES)
    special = _is_in(kind, (EXIF_OR_XMP, *OTHER_FRAMES)) | (frame & ~fits) | (mark != 0xFF)
    framed = tf.reduce_any(before & frame, 1) & ~tf.reduce_any(before & special, 1)
    return _starts_with(start, b"\xff\xd8") & framed & tf.reduce_any(scan, 1)


def _starts_with(values: Tensor, expected: bytes) -> Tensor:
    # True where the last axis starts with these bytes.
    return tf.reduce_all(values[..., : len(expected)] == tf.constant(list(expected), tf.uint8), -1)


def _is_in(values: Tensor, chosen: tuple[int, ...]) -> Tensor:
    return tf.reduce_any(values[..., None] == tf.constant(chosen, tf.uint8), -1)
