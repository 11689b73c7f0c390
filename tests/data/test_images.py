import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_siamim.data import images
from tests.data.photographs import photographs

pytestmark = pytest.mark.one_backend

PHOTO = photographs()[0, 100:130, 200:240]


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data):
    return next(iter(tf.data.Dataset.from_tensors(data).map(images.decode))).numpy()


RGB = Image.fromarray(PHOTO)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_formats_decode_as_pil_decodes_them(kind):
    data = encoded(RGB, kind, **({"lossless": True} if kind == "WEBP" else {}))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decoded(data), expected)
    if kind in ("PNG", "BMP", "TIFF", "WEBP"):
        np.testing.assert_array_equal(decoded(data), PHOTO)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_grey_is_repeated(kind):
    data = encoded(RGB.convert("L"), kind)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decoded(data), np.repeat(expected[..., None], 3, -1))


def test_palettes_become_their_colours():
    palette = RGB.convert("P", palette=Image.Palette.ADAPTIVE)
    for kind in ("PNG", "GIF"):
        np.testing.assert_array_equal(decoded(encoded(palette, kind)), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_laid_over_white(kind):
    alpha = np.full((30, 40, 1), 255, "uint8")
    alpha[:, :20] = 0
    rgba = Image.fromarray(np.concatenate([PHOTO, alpha], -1))
    found = decoded(encoded(rgba, kind, **({"lossless": True} if kind == "WEBP" else {})))
    np.testing.assert_array_equal(found[:, 20:], PHOTO[:, 20:])
    assert (found[:, :20] == 255).all()


def test_a_transparent_colour_is_laid_over_white():
    grey = Image.fromarray(PHOTO[..., 0])
    found = decoded(encoded(grey, "PNG", transparency=int(PHOTO[0, 0, 0])))
    assert (found[0, 0] == 255).all()


def test_cmyk_is_converted():
    data = encoded(RGB.convert("CMYK"), "JPEG", quality=100)
    found = decoded(data)
    np.testing.assert_array_equal(found, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert np.abs(found.astype(int) - PHOTO).mean() < 10


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_of_16_bits_the_high_byte_is_kept(kind):
    values = (np.arange(30 * 40).reshape(30, 40) * 50).astype(np.uint16)
    found = decoded(encoded(Image.fromarray(values), kind))
    np.testing.assert_array_equal(found, np.repeat((values >> 8).astype("uint8")[..., None], 3, -1))


def test_floats_are_clipped():
    values = np.linspace(-50, 300, 1200).reshape(30, 40).astype("float32")
    found = decoded(encoded(Image.fromarray(values), "TIFF"))
    np.testing.assert_array_equal(found[..., 0], values.clip(0, 255).astype("uint8"))


def test_of_an_animation_the_first_frame_is_taken():
    data = encoded(RGB, "GIF", save_all=True, append_images=[Image.new("RGB", (40, 30), "red")])
    np.testing.assert_array_equal(decoded(data), decoded(encoded(RGB, "GIF")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = np.asarray(Image.open(io.BytesIO(encoded(RGB, kind))))
    turned = [
        plain,
        plain[:, ::-1],
        plain[::-1, ::-1],
        plain[::-1],
        plain.swapaxes(0, 1),
        np.rot90(plain, -1),
        plain[::-1, ::-1].swapaxes(0, 1),
        np.rot90(plain),
    ]
    np.testing.assert_array_equal(decoded(encoded(RGB, kind, exif=exif)), turned[orientation - 1])


@pytest.mark.parametrize("data", [b"", b"no image", encoded(RGB, "JPEG")[:200], b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_broken_bytes_are_an_error(data):
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnknownError)):
        decoded(data)


def test_resize_and_centre_equals_pil():
    photo = photographs()[0]
    found = images.resize_and_centre(tf.constant(photo), (224, 224), (256, 256)).numpy()
    resized = Image.fromarray(photo).resize((int(256 * 640 / 427), 256), Image.BICUBIC)
    left = round((resized.width - 224) / 2)
    expected = np.asarray(resized.crop((left, 16, left + 224, 240)))
    assert np.abs(found.astype(int) - expected).mean() < 0.5


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 300), (300, 7), (32, 32)])
def test_resize_and_centre_takes_any_size(height, width):
    image = tf.fill([height, width, 3], tf.constant(9, tf.uint8))
    np.testing.assert_array_equal(images.resize_and_centre(image, (32, 48), (32, 48)), np.full((32, 48, 3), 9))


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (PHOTO[None], PHOTO[None]),
        (PHOTO[None, ..., 0], np.repeat(PHOTO[None, ..., :1], 3, -1)),
        (PHOTO[None] / 255.0, PHOTO[None]),
        (PHOTO[None].astype("int64"), PHOTO[None]),
        (PHOTO[None].astype("uint16") << 8, PHOTO[None]),
    ],
)
def test_arrays_become_bytes_by_their_dtype(pixels, expected):
    np.testing.assert_array_equal(images.image_array(pixels), expected)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((3, 3)), "images must be"),
        (np.zeros((1, 3, 3, 2)), r"received shape \(1, 3, 3, 2\)"),
        (np.zeros((0, 3, 3, 3)), "must not be empty"),
        (np.full((1, 3, 3, 3), 2.0), "within 0...1; received 2.0"),
        (np.full((1, 3, 3, 3), np.nan), "within 0...1; received nan"),
        (np.full((1, 3, 3, 3), 256), "within 0...255; received 256"),
        (np.full((1, 3, 3, 3), -1), "received -1"),
        (np.full((1, 3, 3, 3), "a"), "integers or floats"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(pixels, message):
    with pytest.raises(ValueError, match=message):
        images.image_array(pixels)
