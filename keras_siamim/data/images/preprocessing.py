r"""Deterministic preprocessing in pure TensorFlow: decode, blend with white, resize, center crop, normalize.

Evaluation (`pipeline.evaluation_batches`) and exported graphs (`keras_siamim.export`) call the same functions, so that
a server sees the pixels that were evaluated.

| file | `decode` reads | `problem` reports |
|---|---|---|
| JPEG | 8 bits: gray, RGB, CMYK | 12 bits |
| PNG | all; of 16 bits the high byte | |
| GIF | the first frame | a transparent color |
| BMP | 24 bits, 32 bits, 8-bit gray | palettes, compression, other depths |
| WebP | still images | animations |

Transparency is blended with white; an alpha channel of a BMP that is 0 everywhere is ignored. The orientation comes
from EXIF (the segment of a JPEG or WebP, the chunk or ImageMagick's text chunk of a PNG) or, if EXIF has none, from
XMP.
"""

import tensorflow as tf

from keras_siamim.batch import CROP_FRACTION, IMAGENET_MEAN, IMAGENET_STD

JPEG_START, PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
HEADER = 4096  # bytes in which the first scan of most JPEGs starts
# 16-bit values below this would become nearly black: 8-bit or 12-bit values that were never scaled to 16 bits.
DARKEST_16_BIT = 4096

# RE2 reads patterns as UTF-8, so they hold ASCII bytes only; \C is any byte.
# The start of a JPEG's first scan with three components or one. EXIF and XMP come before it, though perhaps far behind
# the first 4 KiB, where profiles lie first.
SCAN = rb"\C*\x00(\x0c\x03(\C[\x00-\x33]){3}|\x08\x01\C[\x00-\x33])\x00[\x00\x3f][\x00-\x0d]\C*"
# Segments that may hold a small JPEG with a scan of its own.
THUMBNAIL = rb"\C*(JFXX|8BIM)\C*"
# A frame of 12 bits per sample with one component or three.
TWELVE_BITS = rb"\C*\x00(\x0b\x0c\C{4}\x01|\x11\x0c\C{4}\x03\C[\x11-\x44])\C*"
TRANSPARENT_GIF = rb"GIF8\C*!\C\x04[\x01\x03\x05\x07\x09\x0b\x0d\x0f\x11\x13\x15\x17\x19\x1b\x1d\x1f]\C{3}\x00,\C*"
# What precedes a TIFF block with EXIF tags.
JPEG_EXIF, PNG_EXIF, WEBP_EXIF = rb"Exif\x00\x00", rb"eXIf(?:Exif\x00\x00)?", rb"EXIF\C{4}(?:Exif\x00\x00)?"
EXIF_REACH = 1 << 16  # bytes, the longest segment of a JPEG
XMP_ORIENTATION = rb"\C*?tiff:Orientation\s*(?:=\s*[\"']|>\s*)([1-8])\C*"
TEXT_EXIF = rb"\C*?(\C{4})([tz])(?:EXt|TXt)Raw profile type (?:exif|APP1)\x00\C*"

PROBLEMS = (
    "none",
    "not a JPEG, PNG, GIF, BMP or WebP file",
    "a JPEG of 12 bits per channel",
    "a GIF with a transparent color (PNG is supported)",
    "a BMP with a palette, compression, or a depth other than 24 or 32 bits (PNG is supported)",
    "an animated WebP",
    "truncated, corrupt, or of 16-bit values below 4096",
)
UNREADABLE = len(PROBLEMS) - 1


def starts_with(encoded, mark, at=0):
    """Compare bytes of a string tensor with `mark`: bool of its shape."""
    return tf.equal(tf.strings.substr(encoded, tf.minimum(at, tf.strings.length(encoded)), len(mark)), mark)


def problem(encoded):
    """Find a reason not to decode a file, from its header.

    Args:
        encoded: Scalar string tensor, the bytes of a file.

    Returns:
        int32 scalar, a position in `PROBLEMS`, 0 for none. Corrupt data shows only on decoding.
    """
    start = _bytes(encoded, 1078)
    header = tf.strings.substr(encoded, 0, HEADER)
    match = tf.strings.regex_full_match
    jpeg, png, gif, bmp = (starts_with(encoded, mark) for mark in (JPEG_START, PNG_START, b"GIF8", b"BM"))
    webp = starts_with(encoded, b"RIFF") & starts_with(encoded, b"WEBP", 8)
    animated = starts_with(encoded, b"VP8X", 12) & (tf.bitwise.bitwise_and(start[20], 2) > 0)
    # Depth and compression; 3 are bit fields. A palette of 8-bit gray counts up.
    depth, compression = start[28], start[30]
    gray = tf.reduce_all(tf.reshape(start[54:], (256, 4))[:, :3] == tf.cast(tf.range(256), tf.uint8)[:, None])
    plain_bmp = (compression == 0) & ((depth == 24) | (depth == 32) | (depth == 8) & gray)
    plain_bmp |= (compression == 3) & (depth == 32)
    found = [
        ~(jpeg | png | gif | bmp | webp),
        jpeg & match(header, TWELVE_BITS),
        gif & tf.cond(gif, lambda: match(encoded, TRANSPARENT_GIF), lambda: False),
        bmp & ~plain_bmp,
        webp & animated,
    ]
    return tf.argmax(tf.stack([False, *found]), output_type=tf.int32)


def decode(encoded):
    """Decode a file that has no `problem`.

    Args:
        encoded: Scalar string tensor, the bytes of a file.

    Returns:
        `(height, width, 3)` uint8, upright.

    Raises:
        tf.errors.InvalidArgumentError: On running, for corrupt data and for 16-bit values that would be nearly black.
    """
    image = tf.cond(
        starts_with(encoded, JPEG_START),
        lambda: _decode_jpeg(encoded),
        lambda: tf.cond(starts_with(encoded, PNG_START), lambda: _decode_png(encoded), lambda: _decode_other(encoded)),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _decode_jpeg(encoded):
    image = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    return upright(image, orientation(jpeg_metadata(encoded), JPEG_EXIF))


def jpeg_metadata(encoded):
    """Cut a JPEG, a scalar string, before its first scan where that is known to be in the first 4 KiB."""
    header = tf.strings.substr(encoded, 0, HEADER)
    match = tf.strings.regex_full_match
    return tf.cond(match(header, SCAN) & ~match(header, THUMBNAIL), lambda: header, lambda: encoded)


def _decode_png(encoded):
    depth, kind = tf.unstack(_bytes(encoded, 26)[24:])
    pixels = tf.cond(
        depth == 16,
        lambda: _high_byte(tf.io.decode_png(encoded, channels=4, dtype=tf.uint16)),
        lambda: tf.io.decode_png(encoded, channels=4),
    )
    # TensorFlow makes up an alpha of 1 in place of 255 below 8 bits, so it is ignored where the file has none.
    transparent = (kind == 4) | (kind == 6) | tf.strings.regex_full_match(encoded, rb"\C*tRNS\C*")
    image = tf.cond(transparent, lambda: over_white(pixels), lambda: pixels[..., :3])
    return upright(image, orientation(encoded, PNG_EXIF))


def _high_byte(pixels):
    largest = tf.reduce_max(tf.cast(pixels[..., :3], tf.int32))
    tf.debugging.Assert(
        (largest == 0) | (largest >= DARKEST_16_BIT),
        [f"16-bit images must reach {DARKEST_16_BIT}, since their high byte is kept. Received: values up to", largest],
    )
    return tf.cast(tf.bitwise.right_shift(pixels, tf.constant(8, tf.uint16)), tf.uint8)


def _decode_other(encoded):
    pixels = tf.io.decode_image(encoded, channels=0, expand_animations=False)
    bmp = starts_with(encoded, b"BM")
    # The fourth byte of an uncompressed BMP's pixel is unused.
    opaque = bmp & ((_bytes(encoded, 31)[30] == 0) | tf.reduce_all(pixels[..., -1] == 0))
    image = tf.case(
        [
            (tf.shape(pixels)[-1] == 1, lambda: tf.repeat(pixels, 3, axis=-1)),
            ((tf.shape(pixels)[-1] == 4) & ~opaque, lambda: over_white(pixels)),
        ],
        default=lambda: pixels[..., :3],
    )
    webp = starts_with(encoded, b"RIFF")
    return tf.cond(webp, lambda: upright(image, orientation(encoded, WEBP_EXIF)), lambda: image)


def over_white(pixels):
    """Blend transparent pixels with white, rounded as Pillow does.

    Args:
        pixels: `(..., 4)` uint8, alpha last.

    Returns:
        `(..., 3)` uint8.
    """
    pixels = tf.cast(pixels, tf.int32)
    alpha = pixels[..., 3:]
    return tf.cast((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


# Orientation


def orientation(metadata, exif):
    """Read an orientation from EXIF or, where that has none, from XMP.

    Args:
        metadata: Scalar string tensor, a file or as much of it as holds the metadata.
        exif: Pattern of what precedes the EXIF block.

    Returns:
        int32 scalar in [1, 8], 1 where the file has none.
    """
    match, contains = tf.strings.regex_full_match, rb"\C*" + exif + rb"\C*"

    def after_mark():
        rest = tf.strings.regex_replace(metadata, rb"^\C*?" + exif, b"", replace_global=False)
        return orientation_tag(tf.io.decode_raw(tf.strings.substr(rest, 0, EXIF_REACH), tf.uint8))

    found = tf.cond(match(metadata, contains), after_mark, lambda: 0)
    if exif == PNG_EXIF:
        in_text = (found == 0) & match(metadata, TEXT_EXIF)
        found = tf.cond(in_text, lambda: orientation_tag(_text_exif(metadata)), lambda: found)
    in_xmp = (found == 0) & match(metadata, XMP_ORIENTATION)
    digit = tf.cond(in_xmp, lambda: tf.strings.regex_replace(metadata, XMP_ORIENTATION, rb"\1"), lambda: b"0")
    found = tf.where(in_xmp, tf.strings.to_number(digit, tf.int32), found)
    return tf.where((found >= 1) & (found <= 8), found, 1)


def orientation_tag(block):
    """Look the orientation up in the first directory of a TIFF block.

    Args:
        block: `(bytes,)` uint8.

    Returns:
        int32 scalar, 0 without the tag.
    """
    block = tf.cast(tf.concat([block, tf.zeros([16], tf.uint8)], 0), tf.int32)
    big = block[0] == ord("M")
    last = tf.shape(block)[0] - 1

    def short(at):
        first, second = (tf.gather(block, tf.clip_by_value(at + shift, 0, last)) for shift in (0, 1))
        return tf.where(big, 256 * first + second, first + 256 * second)

    # Offsets beyond 64 KiB are none in a segment.
    start = tf.where(big, short(6), short(4))
    entries = start + 2 + 12 * tf.range(short(start))
    is_orientation = (short(entries) == 0x0112) & (short(entries + 2) == 3) & (entries + 12 <= last)
    return tf.reduce_max(tf.concat([[0], tf.where(is_orientation, short(entries + 8), 0)], 0))


def _text_exif(png):
    # ImageMagick writes EXIF as "\nexif\n  LENGTH\nHEXADECIMAL DIGITS", mostly compressed.
    length = tf.io.decode_raw(tf.strings.regex_replace(png, TEXT_EXIF, rb"\1"), tf.int32, little_endian=False)[0]
    compressed = tf.strings.regex_replace(png, TEXT_EXIF, rb"\2") == b"z"
    chunk = tf.strings.regex_replace(png, rb"^\C*?[tz](?:EXt|TXt)Raw profile type ", b"", replace_global=False)
    chunk = tf.strings.substr(chunk, 0, tf.maximum(length - len("Raw profile type "), 0))
    # Behind the rest of the keyword and its zero, a compressed chunk has another zero.
    text = tf.strings.regex_replace(chunk, rb"^[a-zA-Z0-9]*\x00", b"", replace_global=False)
    text = tf.cond(
        compressed,
        lambda: tf.io.decode_compressed(tf.strings.substr(text, 1, EXIF_REACH), "ZLIB"),
        lambda: tf.identity(text),
    )
    digits = tf.strings.regex_replace(tf.strings.regex_replace(text, rb"^\s*\w+\s+\d+\s", b""), rb"[^0-9a-fA-F]", b"")
    digits = tf.strings.regex_replace(digits, rb"^(?i:457869660000)", b"")  # "Exif\0\0"
    numbers = tf.cast(tf.io.decode_raw(digits, tf.uint8), tf.int32)
    # The low bits of digits are their values, of letters those less 9.
    numbers = tf.bitwise.bitwise_and(numbers, 15) + tf.where(numbers >= ord("A"), 9, 0)
    pairs = tf.reshape(numbers[: tf.size(numbers) // 2 * 2], (-1, 2))
    return tf.cast(16 * pairs[:, 0] + pairs[:, 1], tf.uint8)


def upright(image, orientation):
    """Undo an EXIF orientation: `(height, width, 3)` to the same, or with the sides exchanged."""

    def where(cases, change, x):
        return tf.cond(tf.reduce_any(tf.equal(orientation, cases)), lambda: change(x), lambda: x)

    image = where([5, 6, 7, 8], lambda x: tf.transpose(x, (1, 0, 2)), image)
    image = where([2, 3, 6, 7], lambda x: tf.reverse(x, [1]), image)
    return where([3, 4, 7, 8], lambda x: tf.reverse(x, [0]), image)


def _bytes(encoded, count):
    """Return the first `count` bytes of a scalar string, zeros behind a shorter one: `(count,)` uint8."""
    return tf.io.decode_raw(tf.strings.substr(encoded, 0, count)[None], tf.uint8, fixed_length=count)[0]


# Resizing


def frame_of(size, crop_fraction=CROP_FRACTION):
    """Compute the frame that an image covers before its center is cut out: `(height, width)` of ints."""
    return tuple(round(side / crop_fraction) for side in size)


def resize_and_center(images, size, frame=None):
    """Resize images so that they cover a frame, and cut out the center.

    Args:
        images: `(batch, height, width, 3)` uint8.
        size: `(height, width)` of the result.
        frame: `(height, width)` to cover, at least `size`. Defaults to `frame_of(size)`, except that images of exactly
            `size` stay as they are.

    Returns:
        `(batch, *size, 3)` uint8; bicubic, antialiased.
    """
    if frame is None:
        exact = tf.reduce_all(tf.shape(images)[1:3] == size)
        result = tf.cond(exact, lambda: images, lambda: resize_and_center(images, size, frame_of(size)))
        return tf.ensure_shape(result, (images.shape[0], *size, 3))
    given = tf.cast(tf.shape(images)[1:3], tf.float32)
    scale = tf.reduce_max(tf.cast(frame, tf.float32) / given)
    # As torchvision: the shorter side exactly, the longer one cut to a whole number of pixels.
    covered = tf.maximum(tf.cast(tf.floor(given * scale + 1e-3), tf.int32), frame)
    resized = resize(images, covered)
    top, left = tf.unstack(tf.cast(tf.round(tf.cast(covered - size, tf.float32) / 2), tf.int32))
    # In whole rows of bytes: TensorFlow is slow at slices of three channels.
    rows = tf.reshape(resized, (-1, covered[0], 3 * covered[1]))
    return tf.reshape(tf.slice(rows, [0, top, 3 * left], [-1, size[0], 3 * size[1]]), (-1, *size, 3))


def resize(images, size):
    """Resample images of one size.

    Args:
        images: `(batch, height, width, 3)` uint8.
        size: `(height, width)` of the result; ints or an int32 tensor.

    Returns:
        `(batch, *size, 3)` uint8; bicubic, antialiased.
    """
    # TensorFlow's kernel is fast along rows of many channels and slow between neighbors of three: so both axes are
    # done as rows, with everything else as channels and a transposition between. Two to three times as fast.
    rows = _resize_rows(images, size[0])
    columns = _resize_rows(tf.transpose(rows, (0, 2, 1, 3)), size[1])
    # Halves go up, as in Pillow.
    return tf.cast(tf.clip_by_value(tf.transpose(columns, (0, 2, 1, 3)), 0.0, 255.0) + 0.5, tf.uint8)


def _resize_rows(images, rows):
    shape = tf.shape(images)
    resized = tf.raw_ops.ScaleAndTranslate(
        images=tf.reshape(images, (shape[0], shape[1], 1, shape[2] * shape[3])),
        size=tf.stack([rows, 1]),
        scale=tf.stack([tf.cast(rows, tf.float32) / tf.cast(shape[1], tf.float32), 1.0]),
        translation=[0.0, 0.0],
        kernel_type="keyscubic",
        antialias=True,
    )
    return tf.reshape(resized, (shape[0], rows, shape[2], 3))


def normalize(images):
    """Convert uint8 images to float32 of ImageNet's zero mean and unit variance per channel."""
    return (tf.cast(images, tf.float32) - 255.0 * IMAGENET_MEAN) / (255.0 * IMAGENET_STD)


# Batches of files


def decode_batch(encoded, size, frame=None):
    """Decode files and bring them to one size.

    Args:
        encoded: `(batch,)` string tensor, the bytes of one file each.
        size: `(height, width)` of the result.
        frame: See `resize_and_center`.

    Returns:
        `(batch, *size, 3)` uint8.

    Raises:
        tf.errors.InvalidArgumentError: On running; names every file that can't be read by its number and the reason.
    """
    blank = tf.zeros((*size, 3), tf.uint8)

    def read(number, one):
        code = problem(one)
        image = tf.cond(
            code == 0, lambda: resize_and_center(decode(one)[None], size, frame)[0], lambda: tf.identity(blank)
        )
        return number, code, image

    count = tf.shape(encoded)[0]
    files = tf.data.Dataset.from_tensor_slices((tf.range(count), encoded))
    # The parallel map keeps the order and drops files that fail to decode, which an op alone would not number.
    found = files.map(read, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    none = (tf.zeros([0], tf.int32), tf.zeros([0], tf.int32), tf.zeros([0, *size, 3], tf.uint8))
    found = found.batch(tf.maximum(tf.cast(count, tf.int64), 1)).concatenate(tf.data.Dataset.from_tensors(none))
    numbers, codes, images = found.take(1).get_single_element()
    codes = tf.tensor_scatter_nd_update(tf.fill([count], UNREADABLE), numbers[:, None], codes)
    bad = tf.where(codes > 0)[:, 0]
    listed = tf.strings.join([tf.strings.as_string(bad), tf.gather(PROBLEMS, tf.gather(codes, bad))], " is ")
    check = tf.debugging.Assert(
        tf.size(bad) == 0, ["`image_bytes` must hold image files. Received: number", listed], summarize=16
    )
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(images)
