"""What the first bytes of files tell: which are plain 8-bit JPEG and PNG images, which TensorFlow decodes by itself.

Of JPEG all but CMYK, of PNG gray and RGB without a transparent color; not what has an orientation, and not what is too
large.
"""

import tensorflow as tf

from keras_siamim.data.images import preprocessing

# What TensorFlow's decoders pass over: orientation, and PNG's transparent color.
SPECIAL = rb"\C*(Exif\x00\x00|eXIf|tRNS|tiff:Orientation|Raw profile type )\C*"
# Of many JPEGs at once so many segments within so many bytes are looked at: enough unless there are profiles.
SEGMENTS, SEGMENT_BYTES = 14, 1024
START_OF_SCAN, EXIF_OR_XMP = 0xDA, 0xE1
# Baseline, extended and progressive; those that decoders refuse; what lies between are tables.
FRAMES, OTHER_FRAMES = (0xC0, 0xC1, 0xC2), (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
# A PNG's kinds: gray, RGB.
PNG_KINDS = (0, 2)


def is_plain_jpeg(encoded, limit):
    """Whether one file, a scalar string tensor, is a plain JPEG of at most `limit` pixels: bool scalar."""

    def plain():
        return ~tf.strings.regex_full_match(preprocessing.jpeg_metadata(encoded), SPECIAL)

    return tf.cond(is_readable_jpeg(encoded, limit), plain, lambda: tf.constant(False))


def is_readable_jpeg(encoded, limit):
    """Whether one file is a JPEG of at most `limit` pixels, 8 bits, gray or RGB: bool scalar."""

    def readable():
        height, width, components = tf.unstack(tf.image.extract_jpeg_shape(encoded, tf.int64))
        return (components < 4) & (height * width <= limit)

    header = tf.strings.substr(encoded, 0, preprocessing.HEADER)
    jpeg = preprocessing.starts_with(encoded, preprocessing.JPEG_START)
    # Of 12 bits TensorFlow can't even read the shape.
    jpeg &= ~tf.strings.regex_full_match(header, preprocessing.TWELVE_BITS)
    return tf.cond(jpeg, readable, lambda: tf.constant(False))


def is_readable_png(encoded, limit):
    """Whether one file is a PNG of at most `limit` pixels: bool scalar."""
    start = tf.strings.substr(encoded, 0, 26)

    def readable():
        # Bytes 16...23 of a PNG are its sides.
        width, height = tf.unstack(tf.reshape(tf.io.decode_raw(tf.strings.substr(start, 16, 8), tf.int32, False), [2]))
        return (width > 0) & (height > 0) & (tf.cast(width, tf.int64) * tf.cast(height, tf.int64) <= limit)

    png = preprocessing.starts_with(encoded, preprocessing.PNG_START) & (tf.strings.length(start) == 26)
    return tf.cond(png, readable, lambda: tf.constant(False))


def is_plain_png(encoded, limit):
    """Whether one file, a scalar string tensor, is a plain PNG of at most `limit` pixels: bool scalar."""

    def plain():
        # Bytes 24 and 25 of a PNG are its depth and kind; palettes and alpha take more than decoding.
        kind = tf.strings.substr(encoded, 24, 2)
        return tf.reduce_any(kind == [b"\x08\x00", b"\x08\x02"]) & ~tf.strings.regex_full_match(encoded, SPECIAL)

    return tf.cond(is_readable_png(encoded, limit), plain, lambda: tf.constant(False))


def are_plain(encoded, shape):
    """Say which of many files are sure to be plain images of one size, without looking at each.

    Args:
        encoded: `(files,)` string tensor.
        shape: `(height, width)`.

    Returns:
        `(files,)` bool. False also for some plain images with long headers.
    """
    start = tf.io.decode_raw(tf.strings.substr(encoded, 0, SEGMENT_BYTES), tf.uint8, fixed_length=SEGMENT_BYTES)
    png = _are_png(start, shape)
    png &= ~tf.strings.regex_full_match(tf.where(png, encoded, ""), SPECIAL)
    return png | _are_jpeg(start, shape)


def _are_png(start, shape):
    sides = b"".join(side.to_bytes(4, "big") for side in shape[::-1])
    return _are(start, PNG_START + sides + b"\x08") & _among(start[:, 25], PNG_KINDS)


def _are_jpeg(start, shape):
    # From segment to segment by their lengths, as a decoder goes, so that nothing inside a segment is taken for one.
    place = tf.fill(tf.shape(start)[:1], 2)
    places = []
    for _ in range(SEGMENTS):
        places.append(place)
        length = tf.cast(tf.gather(start, place[:, None] + [2, 3], batch_dims=1), tf.int32)
        place = tf.minimum(place + 2 + 256 * length[:, 0] + length[:, 1], SEGMENT_BYTES - 10)
    # The first ten bytes of every segment: its mark, kind and length, and of a frame depth, sides and components.
    segments = tf.gather(start, tf.stack(places, 1)[:, :, None] + tf.range(10), batch_dims=1)
    mark, kind, components = segments[..., 0], segments[..., 1], segments[..., 9]
    scan = kind == START_OF_SCAN
    before = tf.cumsum(tf.cast(scan, tf.int32), 1) == 0
    sides = b"".join(side.to_bytes(2, "big") for side in shape)
    fits = _are(segments[..., 4:], b"\x08" + sides) & _among(components, (1, 3))
    frame = _among(kind, FRAMES)
    special = _among(kind, (EXIF_OR_XMP, *OTHER_FRAMES)) | (frame & ~fits) | (mark != 0xFF)
    framed = tf.reduce_any(before & frame, 1) & ~tf.reduce_any(before & special, 1)
    return _are(start, b"\xff\xd8") & framed & tf.reduce_any(scan, 1)


def _are(values, expected):
    # Whether the first bytes along the last axis are these.
    return tf.reduce_all(values[..., : len(expected)] == tf.constant(list(expected), tf.uint8), -1)


def _among(values, chosen):
    return tf.reduce_any(values[..., None] == tf.constant(chosen, tf.uint8), -1)
