"""Encoded bytes, arrays and tensors become 8-bit RGB pixels, by one rule for every source.

| the file holds | it becomes |
|---|---|
| JPEG, PNG, BMP, GIF, WebP, TIFF and the other formats of `FORMATS` | decoded by content, whatever the name |
| gray | repeated to three channels |
| a palette | its colors |
| transparency | blended with white; the alpha channel of a BMP or TGA is ignored where it is 0 everywhere |
| CMYK | Pillow's conversion to RGB |
| more than 8 bits per channel | see the value ranges below |
| several frames | the first |
| an orientation in EXIF or, without one there, in XMP | applied, so that the image stands upright |
| more than 80 million pixels | refused before they are decoded |
| less than a complete image, or something that no decoder takes | refused |

The value ranges of files, of arrays (`array_source`) and of tensors (`PairedViews`) follow one rule, `as_bytes`:

| dtype | range | becomes |
|---|---|---|
| uint8 | [0, 255] | the same |
| uint16 | [0, 65535], at least 4096 somewhere or 0 everywhere | the high byte |
| other integers | [0, 255], above 1 somewhere or 0 everywhere | the same |
| floats up to 1 | [0, 1] | times 255, rounded |
| floats, above 1 somewhere | [0, 255] | rounded |

All others are refused: nothing turns black or white in silence. The range of floats is judged per call: of a whole
array in `array_source`, of one file, of the images of one call of `PairedViews`.

8-bit JPEG and PNG, nearly all of a usual set, are decoded by TensorFlow without leaving the graph; everything else goes
through Pillow.
"""

import io
import math
import re

import numpy as np
import tensorflow as tf

from keras_siamim.data.images import headers, preprocessing
from keras_siamim.data.python_calls import numpy_function

# 240 MB decoded; below the size at which PIL begins to warn.
PIXEL_LIMIT = 80_000_000
# Formats that Pillow may open. The others are rare as photographs, and some run an interpreter (PostScript).
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "MPO", "AVIF", "JPEG2000", "PPM", "ICO", "PCX")
FORMATS += ("QOI", "TGA")
ORIENTATION = 0x0112
# Formats that are often written with an alpha channel of zeros that nobody meant.
UNUSED_ALPHA = ("BMP", "DIB", "TGA")


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
    plain = headers.is_plain_jpeg(encoded, PIXEL_LIMIT) | headers.is_plain_png(encoded, PIXEL_LIMIT)
    image = tf.cond(plain, lambda: _decode_plain(encoded), lambda: _decode_other(encoded))
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


def _decode_other(encoded):
    readable = headers.is_readable_jpeg(encoded, PIXEL_LIMIT) | headers.is_readable_png(encoded, PIXEL_LIMIT)
    return tf.cond(
        readable,
        lambda: preprocessing.decode(encoded),
        lambda: numpy_function(decode_with_pillow, [encoded], tf.uint8),
    )


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
    except (MemoryError, tf.errors.ResourceExhaustedError):
        raise  # of the machine, not of the image
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
    """Decode one image by Pillow and the module's rules: bytes to a `(height, width, 3)` uint8 array."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(encoded, np.ndarray):  # an array of one object: so `tf.numpy_function` gives it in eager mode
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
        # Pillow stands a TIFF upright on loading and drops its orientation, so the tag is read after that.
        opened.load()
        # Read, not `ImageOps.exif_transpose`, which also writes the other tags anew and fails at odd ones.
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
        # Pillow keeps the high byte of 16-bit colors without a word.
        if opened.format == "TIFF" and 16 in _values(opened.tag_v2.get(258, 8)):
            if not pixels.any():  # values below 256, of which no bit is left
                raise ValueError("16-bit TIFF whose high bytes are all 0 (scale its values to [0, 65535])")
            as_bytes(pixels.astype(np.uint16) << 8, "16-bit TIFF")
        return pixels


def _open(encoded):
    from PIL import Image

    Image.init()
    return Image.open(io.BytesIO(encoded), formats=[name for name in FORMATS if name in Image.OPEN])


# `PIL.Image.Transpose` by EXIF's orientation.
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


def _orientation(opened):
    # Pillow reads XMP too where EXIF has no orientation.
    try:
        return opened.getexif().get(ORIENTATION, 1)
    except Exception:  # noqa: BLE001  damaged EXIF does not make pixels unreadable
        return 1


def _values(tag):
    return tag if isinstance(tag, tuple) else (tag,)


def _unknown(encoded):
    """Say why Pillow can't open a file, as far as its first bytes tell."""
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
    return "no image, or of an unknown format"


def _jpeg_depth(encoded):
    # From segment to segment up to the frame.
    place = 2
    while place + 5 <= len(encoded) and encoded[place] == 0xFF:
        kind = encoded[place + 1]
        if kind in (*headers.FRAMES, *headers.OTHER_FRAMES):
            return encoded[place + 4]
        place += 2 + int.from_bytes(encoded[place + 2 : place + 4], "big")
    return None


def shape_of(encoded):
    """Height and width of the upright image from its header alone; None if it can't be read.

    Args:
        encoded: bytes.
    """
    try:
        with _open(encoded) as image:
            # Orientations from 5 on lie on their side, except in TIFF, whose size Pillow gives upright.
            on_its_side = image.format != "TIFF" and _orientation(image) >= 5
            return image.size if on_its_side else image.size[::-1]
    except Exception:  # noqa: BLE001
        return None


def _repeated(gray):
    return np.repeat(gray[..., None], 3, axis=-1)


def image_array(images):
    """Convert a NumPy array of images to uint8 RGB.

    Args:
        images: `(images, height, width, 1 or 3)` or `(images, height, width)`, of a range that `as_bytes` takes; 1
            channel is repeated.

    Returns:
        `(images, height, width, 3)` uint8.

    Raises:
        ValueError: Another shape, dtype or range.
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


def as_bytes(values, name="`images`"):
    """Convert pixel values of any documented range to uint8; see the table of the module.

    Args:
        values: Array of any shape; uint8, uint16, other integers, or floats.
        name: For messages.

    Returns:
        uint8 array of the same shape.

    Raises:
        ValueError: For another dtype or range.
    """
    dtype = values.dtype
    if dtype == np.uint8 or not values.size:
        return values.astype(np.uint8)
    if not (np.issubdtype(dtype, np.integer) or np.issubdtype(dtype, np.floating)):
        raise ValueError(f"{name} must hold integers or floats. Received: dtype {dtype}.")
    low, high = values.min(), values.max()

    # Written so that NaN fails too.
    def refuse_unless(allowed, rule):
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
