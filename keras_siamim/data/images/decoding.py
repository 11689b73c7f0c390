"""Conversion of encoded bytes, arrays and tensors to 8-bit RGB pixels, with the same rules for every source.

| content of the file | result |
|---|---|
| JPEG, PNG, BMP, GIF, WebP, TIFF and the other formats of `FORMATS` | decoded by content; the name is ignored |
| gray | repeated to three channels |
| a palette | the palette's colors |
| transparency | blended with white; the alpha channel of a BMP or TGA is ignored where it is 0 everywhere |
| CMYK | Pillow's conversion to RGB |
| more than 8 bits per channel | see the value ranges below |
| several frames | the first |
| an orientation in EXIF or, if EXIF has none, in XMP | applied, so that the image is upright |
| more than 80 million pixels | refused before decoding |
| an incomplete image, or an unsupported format | refused |

`as_bytes` converts the values of files, arrays (`array_source`) and tensors (`PairedViews`):

| dtype | range | result |
|---|---|---|
| uint8 | [0, 255] | unchanged |
| uint16 | [0, 65535], with a maximum of 0 or at least 4096 | the high byte |
| other integers | [0, 255], with a maximum of 0 or above 1 | unchanged |
| floats, with a maximum of at most 1 | [0, 1] | times 255, rounded |
| floats, with a maximum above 1 | [0, 255] | rounded |

Other values are refused, because the images would silently turn black or white. The range of floats is determined per
call: for a complete array in `array_source`, for one file, or for the images of one call of `PairedViews`.

TensorFlow decodes 8-bit JPEG and PNG, the bulk of most data sets, without leaving the graph. Pillow decodes the rest.
"""

import functools
import io
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_siamim.data.images import headers, preprocessing
from keras_siamim.data.python_calls import numpy_function
from keras_siamim.types import ArrayLike, Tensor

# 240 MB of pixels; Pillow warns above 89 million pixels.
PIXEL_LIMIT = 80_000_000
# Formats that Pillow may open. Other formats are rare for photographs, and some run an interpreter (PostScript).
FORMATS = (
    *("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "MPO", "AVIF", "JPEG2000", "PPM", "ICO", "PCX"),
    *("QOI", "TGA"),
)
ORIENTATION = 0x0112
# Formats that programs often write with an unused alpha channel of zeros.
UNUSED_ALPHA = ("BMP", "DIB", "TGA")


def decode(encoded: Tensor) -> Tensor:
    """Decode one image.

    Args:
        encoded: Scalar string tensor. The bytes of a file.

    Returns:
        `(height, width, 3)` uint8 tensor.

    Raises:
        tf.errors.OpError: If the bytes are no complete image. In eager mode, Pillow's own errors are raised too.
            `refusal` returns the reason.

    Example:
    >>> decode(tf.io.encode_png(np.zeros((8, 6, 3), "uint8"))).shape
    TensorShape([8, 6, 3])
    """
    encoded = tf.convert_to_tensor(encoded)
    return _decode(encoded) if tf.executing_eagerly() else _decode_in_graphs()(encoded)


@functools.cache
def _decode_in_graphs() -> Callable[[Tensor], Tensor]:
    # Tracing takes a second, and one pipeline decodes in several places, so all graphs call one function. It is traced
    # outside of any graph, because the graph of the first caller may be gone when others call it.
    with tf.init_scope(), tf.device("CPU:0"):
        return tf.function(_decode, [tf.TensorSpec([], tf.string)], autograph=False).get_concrete_function()


def _decode(encoded: Tensor) -> Tensor:
    plain = headers.is_plain_jpeg(encoded, PIXEL_LIMIT) | headers.is_plain_png(encoded, PIXEL_LIMIT)
    image = tf.cond(plain, lambda: _decode_plain(encoded), lambda: _decode_other(encoded))
    return tf.ensure_shape(image, (None, None, 3))


def decode_equal(encoded: Tensor, shape: tuple[int, int]) -> Tensor:
    """Decode a batch of images of one size.

    Args:
        encoded: `(images,)` string tensor with a static shape.
        shape: `(height, width)` of every image.

    Returns:
        `(images, *shape, 3)` uint8 tensor.

    Raises:
        tf.errors.OpError: If an image has another size or can't be decoded.

    Example:
    >>> png = tf.io.encode_png(np.zeros((8, 6, 3), "uint8"))
    >>> decode_equal(tf.stack([png, png]), (8, 6)).shape
    TensorShape([2, 8, 6, 3])
    """
    # Headers are read for all images at once; one by one, reading them would cost more than decoding.
    plain = tf.reduce_all(headers.are_plain(encoded, shape))
    # One iteration of the loop costs half as much as decoding a small image, so each decodes several images.
    together = math.gcd(encoded.shape[0] or 1, 16)
    return tf.cond(plain, lambda: _each(_decode_plain, encoded, shape, together), lambda: _each(decode, encoded, shape))


def _each(decode: Callable[[Tensor], Tensor], encoded: Tensor, shape: tuple[int, int], together: int = 1) -> Tensor:
    signature = tf.TensorSpec((together, *shape, 3), tf.uint8)

    def some(encoded):
        return tf.stack([tf.ensure_shape(decode(one), (*shape, 3)) for one in tf.unstack(encoded)])

    decoded = tf.map_fn(some, tf.reshape(encoded, (-1, together)), fn_output_signature=signature)
    return tf.reshape(decoded, (-1, *shape, 3))


def _decode_plain(encoded: Tensor) -> Tensor:
    # TensorFlow's op decodes PNG too.
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def _decode_other(encoded: Tensor) -> Tensor:
    readable = headers.is_readable_jpeg(encoded, PIXEL_LIMIT) | headers.is_readable_png(encoded, PIXEL_LIMIT)
    return tf.cond(
        readable,
        lambda: preprocessing.decode(encoded),
        lambda: numpy_function(decode_with_pillow, [encoded], tf.uint8),
    )


def refusal(encoded: bytes, shape: tuple[int, int] | None = None) -> str | None:
    """Return the reason if bytes can't be decoded to an image of a shape.

    Args:
        encoded: Bytes of a file.
        shape: `(height, width)`, or None for any shape. Defaults to None.

    Returns:
        One line of text, or None if the bytes can be decoded.

    Raises:
        MemoryError or tf.errors.ResourceExhaustedError: If the machine lacks memory.

    Example:
    >>> refusal(b""), refusal(b"<html>")
    ('empty file', 'not an image, or an unknown format')
    """
    try:
        found = tuple(decode(tf.constant(encoded)).shape[:2])
    except (MemoryError, tf.errors.ResourceExhaustedError):
        raise  # a fault of the machine, not of the image
    except Exception as error:  # noqa: BLE001  decoders raise errors of any kind
        return reason_of(error)
    if shape not in (None, found):
        return "{} x {} pixels where all should have {} x {}".format(*found[::-1], *shape[::-1])
    return None


def reason_of(error: BaseException) -> str:
    """Return an error's message as one line, without the graph names of TensorFlow's messages.

    Example:
    >>> reason_of(tf.errors.InvalidArgumentError(None, None, "Trailing garbage. [Op:DecodePng] name: "))
    'Trailing garbage'
    """
    if not isinstance(error, tf.errors.OpError):
        return f"{error}" or type(error).__name__
    line = re.sub(r"\{\{.*?\}\}|\[Op:.*|name: *$", "", error.message.splitlines()[0])
    return line.strip().rstrip(".")


def decode_with_pillow(encoded: bytes) -> np.ndarray:
    """Decode one image with Pillow and the rules of this module.

    Args:
        encoded: Bytes of a file.

    Returns:
        `(height, width, 3)` uint8 array.

    Raises:
        ValueError: If the image is refused; the message is the reason. Pillow raises other errors too.
    """
    from PIL import Image, UnidentifiedImageError

    if isinstance(encoded, np.ndarray):  # `tf.numpy_function` passes an array of one object in eager mode
        encoded = encoded.item()
    if not encoded:
        raise ValueError("empty file")
    try:
        opened = _open(encoded)
    except UnidentifiedImageError:
        raise ValueError(_unknown(encoded)) from None
    with opened:
        if opened.width * opened.height > PIXEL_LIMIT:
            raise ValueError(f"{opened.width} x {opened.height} pixels, more than {PIXEL_LIMIT:,}")
        # Pillow applies and drops a TIFF's orientation on loading, so the tag is read after that.
        opened.load()
        # `ImageOps.exif_transpose` would rewrite the other tags too, and fails on invalid ones.
        turn = _TURNS.get(_orientation(opened))
        image = opened if turn is None else opened.transpose(turn)
        if image.mode.startswith("I;16"):
            return _repeated(as_bytes(np.asarray(image).astype(np.uint16), f"16-bit {opened.format}"))
        if image.mode in ("I", "F"):
            values = np.asarray(image)
            # Pillow opens some 16-bit files as 32-bit integers.
            sixteen = image.mode == "I" and opened.format in ("PNG", "PPM")
            kind = "floats" if image.mode == "F" else "integers of 32 bits or with a sign"
            return _repeated(as_bytes(values.astype(np.uint16) if sixteen else values, f"{opened.format} of {kind}"))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            if opened.format not in UNUSED_ALPHA or image.getchannel("A").getextrema()[1]:
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        pixels = np.asarray(image.convert("RGB"))
        # Pillow silently keeps only the high byte of 16-bit colors.
        if opened.format == "TIFF" and 16 in _values(opened.tag_v2.get(258, 8)):
            if not pixels.any():  # all values were below 256
                raise ValueError("16-bit TIFF whose high bytes are all 0 (scale its values to [0, 65535])")
            as_bytes(pixels.astype(np.uint16) << 8, "16-bit TIFF")
        return pixels


def _open(encoded: bytes) -> Any:
    from PIL import Image

    Image.init()
    return Image.open(io.BytesIO(encoded), formats=[name for name in FORMATS if name in Image.OPEN])


# `PIL.Image.Transpose` by EXIF's orientation.
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


def _orientation(opened: Any) -> int:
    # Pillow reads XMP if EXIF has no orientation.
    try:
        return opened.getexif().get(ORIENTATION, 1)
    except Exception:  # noqa: BLE001  pixels are readable despite damaged EXIF
        return 1


def _values(tag: Any) -> tuple[Any, ...]:
    return tag if isinstance(tag, tuple) else (tag,)


def _unknown(encoded: bytes) -> str:
    """Return the reason for which Pillow can't open a file, according to its first bytes."""
    if encoded.startswith(preprocessing.JPEG_START):
        depth = _jpeg_depth(encoded)
        return f"JPEG of {depth} bits per channel, which is not supported" if depth not in (None, 8) else "broken JPEG"
    if encoded[:4] in (b"II*\x00", b"MM\x00*"):
        from PIL.TiffImagePlugin import ImageFileDirectory_v2

        try:
            tags, stream = ImageFileDirectory_v2(encoded[:8]), io.BytesIO(encoded)
            stream.seek(tags.next)
            tags.load(stream)
            bits = max(_values(tags.get(258, 1)))
            sample = {1: "unsigned integers", 2: "integers", 3: "floats"}.get(max(_values(tags.get(339, 1))), "values")
            channels = tags.get(277, 1)
        except Exception:  # noqa: BLE001  a damaged directory
            return "broken TIFF"
        return f"TIFF of {bits}-bit {sample} in {channels} channel(s), which is not supported"
    if encoded.startswith((b"%!PS", b"%PDF", b"\xc5\xd0\xd3\xc6")):
        return "PostScript or PDF, which is not supported"
    return "not an image, or an unknown format"


def _jpeg_depth(encoded: bytes) -> int | None:
    # Walks the segments up to the frame header, which has the depth.
    offset = 2
    while offset + 5 <= len(encoded) and encoded[offset] == 0xFF:
        kind = encoded[offset + 1]
        if kind in (*headers.FRAMES, *headers.OTHER_FRAMES):
            return encoded[offset + 4]
        offset += 2 + int.from_bytes(encoded[offset + 2 : offset + 4], "big")
    return None


def shape_of(encoded: bytes) -> tuple[int, int] | None:
    """Read the height and width of the upright image from a file's header.

    Args:
        encoded: Bytes of a file.

    Returns:
        `(height, width)`, or None if the header can't be read.

    Example:
    >>> shape_of(tf.io.encode_png(np.zeros((8, 6, 3), "uint8")).numpy())
    (8, 6)
    """
    try:
        with _open(encoded) as image:
            # Orientations from 5 on exchange the sides. Pillow has applied them to the size of a TIFF already.
            exchanged = image.format != "TIFF" and _orientation(image) >= 5
            return image.size if exchanged else image.size[::-1]
    except Exception:  # noqa: BLE001
        return None


def _repeated(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray[..., None], 3, axis=-1)


def image_array(images: ArrayLike) -> np.ndarray:
    """Convert an array of images to uint8 RGB.

    Args:
        images: `(images, height, width, 1 or 3)` or `(images, height, width)`, in a range of `as_bytes`. One channel is
            repeated to three.

    Returns:
        `(images, height, width, 3)` uint8.

    Raises:
        ValueError: If `images` has another shape, dtype or range.

    Example:
    >>> image_array(np.ones((2, 8, 6))).shape
    (2, 8, 6, 3)
    """
    images = np.asarray(images)
    if images.ndim == 3 and images.shape[-1] in (1, 3, 4):
        raise ValueError(
            f"`images` must be (images, height, width) or (images, height, width, 1 or 3). Received: shape "
            f"{images.shape}, probably one image, to which `images[None]` adds the missing axis."
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            "`images` must be (images, height, width) or (images, height, width, 1 or 3). Received: shape "
            f"{images.shape}."
        )
    if 0 in images.shape:
        raise ValueError(f"`images` must not be empty. Received: shape {images.shape}.")
    images = as_bytes(images)
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def as_bytes(values: np.ndarray, name: str = "`images`") -> np.ndarray:
    """Convert pixel values of one of the ranges in the module's table to uint8.

    Args:
        values: Array of any shape; uint8, uint16, other integers, or floats.
        name: String. Name of the values in messages. Defaults to "`images`".

    Returns:
        uint8 array of the same shape.

    Raises:
        ValueError: If `values` has another dtype or range.

    Example:
    >>> as_bytes(np.array([0.0, 0.5, 1.0])).tolist()
    [0, 128, 255]
    """
    dtype = values.dtype
    if dtype == np.uint8 or not values.size:
        return values.astype(np.uint8)
    if not (np.issubdtype(dtype, np.integer) or np.issubdtype(dtype, np.floating)):
        raise ValueError(f"{name} must hold integers or floats. Received: dtype {dtype}.")
    low, high = values.min(), values.max()

    # Conditions are those of allowed values, so that NaN fails too.
    def refuse_unless(allowed: bool, rule: str) -> None:
        if not allowed:
            raise ValueError(f"{name} of dtype {dtype} must {rule}. Received: values in [{low:g}, {high:g}].")

    if dtype == np.uint16:
        rule = f"reach {preprocessing.DARKEST_16_BIT} or be 0 everywhere, since their high byte is kept"
        refuse_unless(high == 0 or high >= preprocessing.DARKEST_16_BIT, f"{rule} (scale them to [0, 65535])")
        return (values >> 8).astype(np.uint8)
    if np.issubdtype(dtype, np.integer):
        refuse_unless(low >= 0 and high <= 255 and high != 1, "lie within [0, 255] and exceed 1 or be 0 everywhere")
        return values.astype(np.uint8)
    refuse_unless(low >= 0 and high <= 255, "lie within [0, 1] or [0, 255]")
    return np.rint(values * 255.0 if high <= 1 else values).astype(np.uint8)
