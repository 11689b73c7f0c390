r"""Deterministic preprocessing in pure TensorFlow: decode, blend with white, resize, center crop, normalize.

Evaluation (`pipeline.evaluation_batches`) and exported graphs (`keras_siamim.export`) call the same functions, so a
served model gets the same pixels as the evaluated model.

| file | `decode` reads | `problem` reports |
|---|---|---|
| JPEG | 8 bits: gray, RGB, CMYK | 12 bits |
| PNG | all; the high byte of 16 bits | |
| GIF | the first frame | a transparent color |
| BMP | 24 bits, 32 bits, 8-bit gray | palettes, compression, other depths |
| WebP | still images | animations |

Transparency is blended with white; an alpha channel of a BMP that is 0 everywhere is ignored. The orientation comes
from EXIF (the segment of a JPEG or WebP, the chunk or ImageMagick's text chunk of a PNG) or, if EXIF has none, from
XMP.
"""

from collections.abc import Callable

import tensorflow as tf

from keras_siamim.batch import CROP_FRACTION, IMAGENET_MEAN, IMAGENET_STD
from keras_siamim.types import Tensor

JPEG_START, PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
HEADER = 4096  # bytes; the first scan of most JPEGs starts in them
# A maximum of 16-bit values below this indicates 8-bit or 12-bit values, whose high bytes would be nearly black.
DARKEST_16_BIT = 4096

# RE2 reads patterns as UTF-8, so they hold ASCII bytes only; \C is any byte.
# The start of a JPEG's first scan with three components or one. EXIF and XMP come before it, possibly after color
# profiles and therefore beyond the first 4 KiB.
SCAN = rb"\C*\x00(\x0c\x03(\C[\x00-\x33]){3}|\x08\x01\C[\x00-\x33])\x00[\x00\x3f][\x00-\x0d]\C*"
# Segments that may contain a small JPEG with its own scan.
THUMBNAIL = rb"\C*(JFXX|8BIM)\C*"
# A frame of 12 bits per sample with one component or three.
TWELVE_BITS = rb"\C*\x00(\x0b\x0c\C{4}\x01|\x11\x0c\C{4}\x03\C[\x11-\x44])\C*"
TRANSPARENT_GIF = rb"GIF8\C*!\C\x04[\x01\x03\x05\x07\x09\x0b\x0d\x0f\x11\x13\x15\x17\x19\x1b\x1d\x1f]\C{3}\x00,\C*"
# The bytes before a TIFF block with EXIF tags.
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


def starts_with(encoded: Tensor, mark: bytes, at: int = 0) -> Tensor:
    """Return True if a string has the bytes `mark` at an offset.

    Args:
        encoded: Scalar string tensor.
        mark: Bytes.
        at: Integer. Offset in bytes. Defaults to 0.

    Returns:
        bool scalar tensor.

    Example:
    >>> bool(starts_with(b"GIF89a", b"GIF8")), bool(starts_with(b"GIF89a", b"89", at=3))
    (True, True)
    """
    return tf.equal(tf.strings.substr(encoded, tf.minimum(at, tf.strings.length(encoded)), len(mark)), mark)


def problem(encoded: Tensor) -> Tensor:
    """Find a problem in a file's header. Corrupt data is detected only on decoding.

    Args:
        encoded: Scalar string tensor. The bytes of a file.

    Returns:
        int32 scalar tensor, an index of `PROBLEMS`, 0 for none.

    Example:
    >>> PROBLEMS[int(problem(b"%PDF-1.7"))]
    'not a JPEG, PNG, GIF, BMP or WebP file'
    """
    start = _bytes(encoded, 1078)
    header = tf.strings.substr(encoded, 0, HEADER)
    match = tf.strings.regex_full_match
    jpeg, png, gif, bmp = (starts_with(encoded, mark) for mark in (JPEG_START, PNG_START, b"GIF8", b"BM"))
    webp = starts_with(encoded, b"RIFF") & starts_with(encoded, b"WEBP", 8)
    animated = starts_with(encoded, b"VP8X", 12) & (tf.bitwise.bitwise_and(start[20], 2) > 0)
    # Depth and compression; compression 3 stands for bit fields. The palette of 8-bit gray is 0, 1, ..., 255.
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


def decode(encoded: Tensor) -> Tensor:
    """Decode a file that has no `problem`.

    Args:
        encoded: Scalar string tensor. The bytes of a file.

    Returns:
        `(height, width, 3)` uint8 tensor, upright.

    Raises:
        tf.errors.InvalidArgumentError: At run time, for corrupt data and for 16-bit values that would be nearly black.

    Example:
    >>> decode(tf.io.encode_png(np.full((1, 1, 1), 7, "uint8"))).numpy().tolist()
    [[[7, 7, 7]]]
    """
    image = tf.cond(
        starts_with(encoded, JPEG_START),
        lambda: _decode_jpeg(encoded),
        lambda: tf.cond(starts_with(encoded, PNG_START), lambda: _decode_png(encoded), lambda: _decode_other(encoded)),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _decode_jpeg(encoded: Tensor) -> Tensor:
    image = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    return upright(image, orientation(jpeg_metadata(encoded), JPEG_EXIF))


def jpeg_metadata(encoded: Tensor) -> Tensor:
    """Return the part of a JPEG that contains all metadata before its first scan.

    Args:
        encoded: Scalar string tensor. The bytes of a JPEG.

    Returns:
        Scalar string tensor: the first 4 KiB if the first scan certainly starts in them, else the complete file.
    """
    header = tf.strings.substr(encoded, 0, HEADER)
    match = tf.strings.regex_full_match
    return tf.cond(match(header, SCAN) & ~match(header, THUMBNAIL), lambda: header, lambda: encoded)


def _decode_png(encoded: Tensor) -> Tensor:
    depth, kind = tf.unstack(_bytes(encoded, 26)[24:])
    pixels = tf.cond(
        depth == 16,
        lambda: _high_byte(tf.io.decode_png(encoded, channels=4, dtype=tf.uint16)),
        lambda: tf.io.decode_png(encoded, channels=4),
    )
    # For a file of less than 8 bits without alpha, TensorFlow adds an alpha of 1 instead of 255, so it is ignored.
    transparent = (kind == 4) | (kind == 6) | tf.strings.regex_full_match(encoded, rb"\C*tRNS\C*")
    image = tf.cond(transparent, lambda: over_white(pixels), lambda: pixels[..., :3])
    return upright(image, orientation(encoded, PNG_EXIF))


def _high_byte(pixels: Tensor) -> Tensor:
    largest = tf.reduce_max(tf.cast(pixels[..., :3], tf.int32))
    tf.debugging.Assert(
        (largest == 0) | (largest >= DARKEST_16_BIT),
        [f"16-bit images must reach {DARKEST_16_BIT}, since their high byte is kept. Received: values up to", largest],
    )
    return tf.cast(tf.bitwise.right_shift(pixels, tf.constant(8, tf.uint16)), tf.uint8)


def _decode_other(encoded: Tensor) -> Tensor:
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


def over_white(pixels: Tensor) -> Tensor:
    """Blend transparent pixels with white, with Pillow's rounding.

    Args:
        pixels: `(..., 4)` uint8, alpha last.

    Returns:
        `(..., 3)` uint8.

    Example:
    >>> over_white([[10, 20, 30, 255], [10, 20, 30, 0]]).numpy().tolist()
    [[10, 20, 30], [255, 255, 255]]
    """
    pixels = tf.cast(pixels, tf.int32)
    alpha = pixels[..., 3:]
    return tf.cast((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


# Orientation


def orientation(metadata: Tensor, exif: bytes) -> Tensor:
    """Read an orientation from EXIF or, if EXIF has none, from XMP.

    Args:
        metadata: Scalar string tensor. A file, or the part of it that contains the metadata.
        exif: Bytes. Regular expression of the bytes before the EXIF block.

    Returns:
        int32 scalar tensor in [1, 8], 1 if the file has no orientation.

    Example:
    >>> int(orientation(b"<x:xmpmeta tiff:Orientation='6'>", JPEG_EXIF))
    6
    """
    match, contains = tf.strings.regex_full_match, rb"\C*" + exif + rb"\C*"

    def after_mark() -> Tensor:
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


def orientation_tag(block: Tensor) -> Tensor:
    """Read the orientation from the first directory of a TIFF block.

    Args:
        block: `(bytes,)` uint8.

    Returns:
        int32 scalar tensor, 0 without the tag.
    """
    block = tf.cast(tf.concat([block, tf.zeros([16], tf.uint8)], 0), tf.int32)
    big = block[0] == ord("M")
    last = tf.shape(block)[0] - 1

    def short(at: Tensor | int) -> Tensor:
        first, second = (tf.gather(block, tf.clip_by_value(at + shift, 0, last)) for shift in (0, 1))
        return tf.where(big, 256 * first + second, first + 256 * second)

    # A segment has no offsets beyond 64 KiB, so the lower 16 bits are enough.
    start = tf.where(big, short(6), short(4))
    entries = start + 2 + 12 * tf.range(short(start))
    is_orientation = (short(entries) == 0x0112) & (short(entries + 2) == 3) & (entries + 12 <= last)
    return tf.reduce_max(tf.concat([[0], tf.where(is_orientation, short(entries + 8), 0)], 0))


def _text_exif(png: Tensor) -> Tensor:
    # ImageMagick writes EXIF as "\nexif\n  LENGTH\nHEXADECIMAL DIGITS", usually compressed.
    length = tf.io.decode_raw(tf.strings.regex_replace(png, TEXT_EXIF, rb"\1"), tf.int32, little_endian=False)[0]
    compressed = tf.strings.regex_replace(png, TEXT_EXIF, rb"\2") == b"z"
    chunk = tf.strings.regex_replace(png, rb"^\C*?[tz](?:EXt|TXt)Raw profile type ", b"", replace_global=False)
    chunk = tf.strings.substr(chunk, 0, tf.maximum(length - len("Raw profile type "), 0))
    # A compressed chunk has another zero after the keyword and its zero.
    text = tf.strings.regex_replace(chunk, rb"^[a-zA-Z0-9]*\x00", b"", replace_global=False)
    text = tf.cond(
        compressed,
        lambda: tf.io.decode_compressed(tf.strings.substr(text, 1, EXIF_REACH), "ZLIB"),
        lambda: tf.identity(text),
    )
    digits = tf.strings.regex_replace(tf.strings.regex_replace(text, rb"^\s*\w+\s+\d+\s", b""), rb"[^0-9a-fA-F]", b"")
    digits = tf.strings.regex_replace(digits, rb"^(?i:457869660000)", b"")  # "Exif\0\0"
    codes = tf.cast(tf.io.decode_raw(digits, tf.uint8), tf.int32)
    # The low four bits of a digit's code are its value; those of a letter's code are its value minus 9.
    values = tf.bitwise.bitwise_and(codes, 15) + tf.where(codes >= ord("A"), 9, 0)
    pairs = tf.reshape(values[: tf.size(values) // 2 * 2], (-1, 2))
    return tf.cast(16 * pairs[:, 0] + pairs[:, 1], tf.uint8)


def upright(image: Tensor, orientation: Tensor | int) -> Tensor:
    """Undo an EXIF orientation.

    Args:
        image: `(height, width, 3)` tensor.
        orientation: int32 scalar in [1, 8].

    Returns:
        `(height, width, 3)` tensor, or `(width, height, 3)` for orientations from 5.

    Example:
    >>> upright(tf.zeros((8, 6, 3)), 6).shape
    TensorShape([6, 8, 3])
    """

    def where(cases: list[int], change: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return tf.cond(tf.reduce_any(tf.equal(orientation, cases)), lambda: change(x), lambda: x)

    image = where([5, 6, 7, 8], lambda x: tf.transpose(x, (1, 0, 2)), image)
    image = where([2, 3, 6, 7], lambda x: tf.reverse(x, [1]), image)
    return where([3, 4, 7, 8], lambda x: tf.reverse(x, [0]), image)


def _bytes(encoded: Tensor, count: int) -> Tensor:
    """Return the first `count` bytes of a scalar string, padded with zeros: `(count,)` uint8."""
    return tf.io.decode_raw(tf.strings.substr(encoded, 0, count)[None], tf.uint8, fixed_length=count)[0]


# Resizing


def frame_of(size: tuple[int, int], crop_fraction: float = CROP_FRACTION) -> tuple[int, ...]:
    """Return the frame that images are resized to cover before the center crop.

    Args:
        size: `(height, width)` of the crop.
        crop_fraction: Float in (0, 1]. Ratio of the crop's sides to the frame's sides. Defaults to 0.875.

    Returns:
        `(height, width)` as integers.

    Example:
    >>> frame_of((224, 224))
    (256, 256)
    """
    return tuple(round(side / crop_fraction) for side in size)


def resize_and_center(images: Tensor, size: tuple[int, int], frame: tuple[int, ...] | None = None) -> Tensor:
    """Resize images to cover a frame, and crop the center.

    Resizing is bicubic with antialiasing.

    Args:
        images: `(batch, height, width, 3)` uint8.
        size: `(height, width)` of the result.
        frame: `(height, width)` to cover, at least `size`. Defaults to `frame_of(size)`, except that images of exactly
            `size` stay unchanged.

    Returns:
        `(batch, *size, 3)` uint8.

    Example:
    >>> resize_and_center(tf.zeros((2, 48, 64, 3), tf.uint8), (32, 32)).shape
    TensorShape([2, 32, 32, 3])
    """
    if frame is None:
        exact = tf.reduce_all(tf.shape(images)[1:3] == size)
        result = tf.cond(exact, lambda: images, lambda: resize_and_center(images, size, frame_of(size)))
        return tf.ensure_shape(result, (images.shape[0], *size, 3))
    given = tf.cast(tf.shape(images)[1:3], tf.float32)
    scale = tf.reduce_max(tf.cast(frame, tf.float32) / given)
    # As in torchvision, the longer side is rounded down to an integer.
    covered = tf.maximum(tf.cast(tf.floor(given * scale + 1e-3), tf.int32), frame)
    resized = resize(images, covered)
    top, left = tf.unstack(tf.cast(tf.round(tf.cast(covered - size, tf.float32) / 2), tf.int32))
    # Rows of bytes, because TensorFlow is slow at slicing an axis with three channels behind it.
    rows = tf.reshape(resized, (-1, covered[0], 3 * covered[1]))
    return tf.reshape(tf.slice(rows, [0, top, 3 * left], [-1, size[0], 3 * size[1]]), (-1, *size, 3))


def resize(
    images: Tensor,
    size: tuple[int, int] | Tensor,
    kernel: str = "keyscubic",
    window: tuple[int, int, int, int] | Tensor | None = None,
) -> Tensor:
    """Resize images of one size, with antialiasing, and possibly crop the result.

    Args:
        images: `(batch, height, width, 3)` uint8.
        size: `(height, width)` of the resized images, integers or an int32 tensor.
        kernel: String. Kernel of `tf.image`, such as `"triangle"` for bilinear. Defaults to `"keyscubic"`, bicubic.
        window: `(top, left, height, width)` of the part of the resized images to return, integers or an int32 tensor.
            Nothing else is computed. Defaults to None, the resized images.

    Returns:
        `(batch, *size, 3)` uint8, or a window of it.

    Example:
    >>> resize(tf.fill((1, 4, 4, 3), tf.constant(9, tf.uint8)), (2, 1)).numpy().ravel().tolist()
    [9, 9, 9, 9, 9, 9]
    """
    top, left, height, width = (0, 0, size[0], size[1]) if window is None else tf.unstack(window)
    # TensorFlow's kernel is fast for rows with many channels and slow for pixels with three. So each axis in turn is
    # resized as rows, with all other axes as channels, and a transposition between. This is two to three times faster.
    rows = _resize_rows(images, size[0], kernel, top, height)
    columns = _resize_rows(tf.transpose(rows, (0, 2, 1, 3)), size[1], kernel, left, width)
    # Halves are rounded up, as in Pillow.
    return tf.cast(tf.clip_by_value(tf.transpose(columns, (0, 2, 1, 3)), 0.0, 255.0) + 0.5, tf.uint8)


def _resize_rows(images: Tensor, rows: Tensor | int, kernel: str, first: Tensor | int, count: Tensor | int) -> Tensor:
    shape = tf.shape(images)
    resized = tf.raw_ops.ScaleAndTranslate(
        images=tf.reshape(images, (shape[0], shape[1], 1, shape[2] * shape[3])),
        size=tf.stack([count, 1]),
        scale=tf.stack([tf.cast(rows, tf.float32) / tf.cast(shape[1], tf.float32), 1.0]),
        translation=tf.stack([-tf.cast(first, tf.float32), 0.0]),
        kernel_type=kernel,
        antialias=True,
    )
    return tf.reshape(resized, (shape[0], count, shape[2], 3))


def normalize(images: Tensor) -> Tensor:
    """Standardize uint8 images with ImageNet's mean and standard deviation per channel.

    Args:
        images: `(..., 3)` uint8.

    Returns:
        `(..., 3)` float32.

    Example:
    >>> normalize(tf.zeros((1, 3), tf.uint8)).numpy().round(2)
    array([[-2.12, -2.04, -1.8 ]], dtype=float32)
    """
    return (tf.cast(images, tf.float32) - 255.0 * IMAGENET_MEAN) / (255.0 * IMAGENET_STD)


# Batches of files


def decode_batch(encoded: Tensor, size: tuple[int, int], frame: tuple[int, ...] | None = None) -> Tensor:
    """Decode files and resize the images to one size.

    Args:
        encoded: `(batch,)` string tensor. The bytes of one file per image.
        size: `(height, width)` of the result.
        frame: See `resize_and_center`. Defaults to None.

    Returns:
        `(batch, *size, 3)` uint8.

    Raises:
        tf.errors.InvalidArgumentError: At run time, with the index of every unreadable file and the reason.

    Example:
    >>> decode_batch([tf.io.encode_png(np.zeros((8, 6, 3), "uint8"))], (4, 4)).shape
    TensorShape([1, 4, 4, 3])
    """
    blank = tf.zeros((*size, 3), tf.uint8)

    def read(index: Tensor, one: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        code = problem(one)
        image = tf.cond(
            code == 0, lambda: resize_and_center(decode(one)[None], size, frame)[0], lambda: tf.identity(blank)
        )
        return index, code, image

    count = tf.shape(encoded)[0]
    files = tf.data.Dataset.from_tensor_slices((tf.range(count), encoded))
    # The parallel map keeps the order and drops files that fail to decode; a single op would not report their indices.
    read = tf.autograph.experimental.do_not_convert(read)
    found = files.map(read, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    none = (tf.zeros([0], tf.int32), tf.zeros([0], tf.int32), tf.zeros([0, *size, 3], tf.uint8))
    found = found.batch(tf.maximum(tf.cast(count, tf.int64), 1)).concatenate(tf.data.Dataset.from_tensors(none))
    indices, codes, images = found.take(1).get_single_element()
    codes = tf.tensor_scatter_nd_update(tf.fill([count], UNREADABLE), indices[:, None], codes)
    bad = tf.where(codes > 0)[:, 0]
    listed = tf.strings.join([tf.strings.as_string(bad), tf.gather(PROBLEMS, tf.gather(codes, bad))], " is ")
    check = tf.debugging.Assert(
        tf.size(bad) == 0, ["`image_bytes` must be image files. Received: index", listed], summarize=16
    )
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(images)
