"""What the first bytes of files tell: which are plain 8-bit JPEG and PNG images, which TensorFlow decodes by itself.

Of JPEG all but CMYK, of PNG grey and RGB without a transparent colour; not what has an orientation, and not what is too
large.
"""

import tensorflow as tf

HEADER = 4096
# What TensorFlow's decoders pass over: orientation, and PNG's transparent colour.
SPECIAL = rb"\C*(Exif\x00\x00|eXIf|tRNS)\C*"
# The start of a JPEG's first scan with three components or one, written without bytes above 127, which these
# expressions can't name. Orientation comes before, though perhaps far behind the first 4 KiB, where profiles lie first.
SCAN = rb"\C*\x00(\x0c\x03(\C[\x00-\x33]){3}|\x08\x01\C[\x00-\x33])\x00[\x00\x3f][\x00-\x0d]\C*"
# Segments that may hold a small JPEG with a scan of its own.
THUMBNAIL = rb"\C*(JFXX|8BIM)\C*"

# Of many JPEGs at once so many segments within so many bytes are looked at: enough unless there are profiles.
SEGMENTS, SEGMENT_BYTES = 14, 1024
START_OF_SCAN, EXIF_OR_XMP = 0xDA, 0xE1
# Baseline, extended and progressive; those that decoders refuse; what lies between are tables.
FRAMES, OTHER_FRAMES = (0xC0, 0xC1, 0xC2), (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
# A PNG's kinds: grey, RGB.
PNG_KINDS = (0, 2)


def is_plain_jpeg(encoded, limit):
    """Whether one file, a scalar string tensor, is a plain JPEG of at most `limit` pixels: bool scalar."""
    header = tf.strings.substr(encoded, 0, HEADER)

    def plain():
        height, width, components = tf.unstack(tf.image.extract_jpeg_shape(encoded, tf.int64))
        match = tf.strings.regex_full_match
        whole = match(header, SCAN) & ~match(header, THUMBNAIL)
        special = match(tf.cond(whole, lambda: header, lambda: encoded), SPECIAL)
        return (components < 4) & (height * width <= limit) & ~special

    return tf.cond(tf.strings.substr(encoded, 0, 3) == b"\xff\xd8\xff", plain, lambda: tf.constant(False))


def is_plain_png(encoded, limit):
    """Whether one file, a scalar string tensor, is a plain PNG of at most `limit` pixels: bool scalar."""
    start = tf.strings.substr(encoded, 0, 26)

    def plain():
        # Bytes 16...23 of a PNG are its sides, 24 its depth, 25 its kind; palettes and alpha are PIL's.
        width, height = tf.unstack(tf.reshape(tf.io.decode_raw(tf.strings.substr(start, 16, 8), tf.int32, False), [2]))
        depth, kind = tf.unstack(tf.reshape(tf.io.decode_raw(tf.strings.substr(start, 24, 2), tf.uint8), [2]))
        simple = (depth == 8) & tf.reduce_any(kind == PNG_KINDS)
        small = tf.cast(width, tf.int64) * tf.cast(height, tf.int64) <= limit
        return simple & small & ~tf.strings.regex_full_match(encoded, SPECIAL)

    png = (tf.strings.substr(encoded, 0, 6) == PNG_START[:6]) & (tf.strings.length(start) == 26)
    return tf.cond(png, plain, lambda: tf.constant(False))


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
