import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, PngImagePlugin

from keras_siamim.data.images import decoding, preprocessing
from tests.data.images.photographs import photographs

pytestmark = pytest.mark.one_backend

PHOTO = photographs()[0, 100:130, 200:240]


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def decode_in_graph(data):
    return decoding.decode(data)


def decoded(data):
    return decode_in_graph(data).numpy()


RGB = Image.fromarray(PHOTO)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_formats_decode_as_pil_decodes_them(kind):
    data = encoded(RGB, kind, **({"lossless": True} if kind == "WEBP" else {}))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decoded(data), expected)
    if kind in ("PNG", "BMP", "TIFF", "WEBP"):
        np.testing.assert_array_equal(decoded(data), PHOTO)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_gray_is_repeated(kind):
    data = encoded(RGB.convert("L"), kind)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decoded(data), np.repeat(expected[..., None], 3, -1))


def test_palettes_become_their_colors():
    palette = RGB.convert("P", palette=Image.Palette.ADAPTIVE)
    for kind in ("PNG", "GIF"):
        np.testing.assert_array_equal(decoded(encoded(palette, kind)), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_blended_with_white(kind):
    alpha = np.full((30, 40, 1), 255, "uint8")
    alpha[:, :20] = 0
    rgba = Image.fromarray(np.concatenate([PHOTO, alpha], -1))
    found = decoded(encoded(rgba, kind, **({"lossless": True} if kind == "WEBP" else {})))
    np.testing.assert_array_equal(found[:, 20:], PHOTO[:, 20:])
    assert (found[:, :20] == 255).all()


def test_a_transparent_color_is_blended_with_white():
    gray = Image.fromarray(PHOTO[..., 0])
    found = decoded(encoded(gray, "PNG", transparency=int(PHOTO[0, 0, 0])))
    assert (found[0, 0] == 255).all()


def test_cmyk_is_converted():
    data = encoded(RGB.convert("CMYK"), "JPEG", quality=100)
    found = decoded(data)
    np.testing.assert_array_equal(found, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert np.abs(found.astype(int) - PHOTO).mean() < 10


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_the_high_byte_of_16_bits_is_kept(kind):
    values = (np.arange(30 * 40).reshape(30, 40) * 50).astype(np.uint16)
    found = decoded(encoded(Image.fromarray(values), kind))
    np.testing.assert_array_equal(found, np.repeat((values >> 8).astype("uint8")[..., None], 3, -1))


def test_floats_beyond_the_range_are_refused():
    values = np.linspace(-50, 300, 1200).reshape(30, 40).astype("float32")
    assert "Received: values in [-50, 300]" in decoding.refusal(encoded(Image.fromarray(values), "TIFF"))


def test_an_animation_decodes_to_its_first_frame():
    data = encoded(RGB, "GIF", save_all=True, append_images=[Image.new("RGB", (40, 30), "red")])
    np.testing.assert_array_equal(decoded(data), decoded(encoded(RGB, "GIF")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
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


def test_resize_and_center_equals_pil():
    photo = photographs()[0]
    found = preprocessing.resize_and_center(tf.constant(photo)[None], (224, 224), (256, 256)).numpy()[0]
    resized = Image.fromarray(photo).resize((int(256 * 640 / 427), 256), Image.BICUBIC)
    left = round((resized.width - 224) / 2)
    expected = np.asarray(resized.crop((left, 16, left + 224, 240)))
    assert np.abs(found.astype(int) - expected).mean() < 0.5


@pytest.mark.parametrize("kernel", ["keyscubic", "triangle"])
def test_a_window_is_a_part_of_the_resized_image(kernel):
    image = tf.constant(photographs()[:1])
    whole = preprocessing.resize(image, (150, 97), kernel)
    part = preprocessing.resize(image, (150, 97), kernel, tf.constant([31, 12, 80, 70]))
    assert np.abs(part.numpy().astype(int) - whole[:, 31:111, 12:82].numpy()).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 300), (300, 7), (32, 32)])
def test_resize_and_center_takes_any_size(height, width):
    image = tf.fill([height, width, 3], tf.constant(9, tf.uint8))
    found = preprocessing.resize_and_center(image[None], (32, 48), (32, 48))
    np.testing.assert_array_equal(found[0], np.full((32, 48, 3), 9))


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
    np.testing.assert_array_equal(decoding.image_array(pixels), expected)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((3, 3)), "`images` must be"),
        (np.zeros((1, 3, 3, 2)), r"Received: shape \(1, 3, 3, 2\)"),
        (np.zeros((0, 3, 3, 3)), "must not be empty"),
        (np.zeros((9, 8, 3)), r"probably one image, to which `images\[None\]`"),
        (np.full((1, 3, 3, 3), 256.5), r"within \[0, 1\] or \[0, 255\]. Received: values in \[256.5, 256.5\]"),
        (np.full((1, 3, 3, 3), np.nan), r"Received: values in \[nan, nan\]"),
        (np.full((1, 3, 3, 3), 256), r"within \[0, 255\].*Received: values in \[256, 256\]"),
        (np.full((1, 3, 3, 3), -1), r"Received: values in \[-1, -1\]"),
        (np.full((1, 3, 3, 3), 200, "uint16"), "uint16 must reach 4096"),
        (np.ones((1, 3, 3, 3), int), "exceed 1 or be 0 everywhere"),
        (np.full((1, 3, 3, 3), "a"), "integers or floats"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(pixels, message):
    with pytest.raises(ValueError, match=message):
        decoding.image_array(pixels)


def tiff(values):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF")
    return buffer.getvalue()


GRADIENT = np.linspace(0, 1, 240).reshape(12, 20)


@pytest.mark.parametrize(
    "values",
    [
        GRADIENT.astype("float32"),
        (255 * GRADIENT).astype("float32"),
        (255 * GRADIENT).astype("int32"),
        (65_535 * GRADIENT).astype("uint16"),
        (255 * GRADIENT).astype("uint8"),
    ],
    ids=lambda values: f"{values.dtype} up to {values.max():g}",
)
def test_every_depth_of_a_file_becomes_visible(values):
    found = decoded(tiff(values)).astype(int)
    assert np.abs(found[..., 0] - 255 * GRADIENT).max() <= 1


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((4095 * GRADIENT).astype("uint16"), "16-bit TIFF of dtype uint16 must reach 4096"),
        ((255 * GRADIENT).astype("uint16"), "16-bit TIFF of dtype uint16 must reach 4096"),
        ((20_000 * GRADIENT).astype("int32"), "TIFF of integers of 32 bits or with a sign"),
        ((-GRADIENT).astype("float32"), "TIFF of floats of dtype float32 must lie within"),
    ],
    ids=str,
)
def test_a_file_that_would_be_black_or_white_is_refused_by_its_kind(values, reason):
    assert reason in decoding.refusal(tiff(values))


def test_postscript_is_refused_without_an_interpreter():
    assert decoding.refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == (
        "PostScript or PDF, which is not supported"
    )


def test_twelve_bits_are_reported():
    data = bytearray(encoded(RGB, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 4] = 12
    assert decoding.refusal(bytes(data)) == "JPEG of 12 bits per channel, which is not supported"


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def text_chunk():
    digits = exif_of(6).tobytes().hex()
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n    {len(digits) // 2}\n{digits}\n", zip=True)
    return info


TURNED = {
    "EXIF with an odd rational": ("JPEG", {"exif": b"Exif\x00\x00" + exif_of(6).tobytes()[6:]}),
    "XMP in a JPEG": ("JPEG", {"xmp": XMP}),
    "EXIF in a text of a PNG": ("PNG", {"pnginfo": text_chunk()}),
    "EXIF in a WebP": ("WEBP", {"exif": exif_of(6), "lossless": True}),
}


@pytest.mark.parametrize(("kind", "options"), TURNED.values(), ids=TURNED.keys())
def test_every_decoder_applies_an_orientation_in_any_metadata(kind, options):
    data = encoded(RGB, kind, **options)
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.rot90(np.asarray(opened.convert("RGB")), -1)
    for found in (decoded(data), decoding.decode_with_pillow(data), preprocessing.decode(tf.constant(data)).numpy()):
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).max() <= 1
    assert decoding.shape_of(data) == expected.shape[:2]


def test_an_unused_alpha_channel_of_a_bitmap_is_ignored():
    pixels = np.dstack([np.asarray(RGB), np.zeros(np.asarray(RGB).shape[:2], "uint8")])
    data = encoded(Image.fromarray(pixels), "BMP")
    for found in (decoded(data), preprocessing.decode(tf.constant(data)).numpy()):
        np.testing.assert_array_equal(found, np.asarray(RGB))


def test_sixteen_bit_gray_with_a_transparent_value_is_blended_with_white():
    values = np.tile(np.array([[0, 30_000, 60_000]], "uint16"), (2, 1))
    data = encoded(Image.fromarray(values), "PNG", transparency=30_000)
    np.testing.assert_array_equal(decoded(data)[0, :, 0], [0, 255, 234])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_tiff_is_applied_once(orientation):
    data = encoded(RGB, "TIFF", exif=exif_of(orientation))
    upright = decoded(encoded(RGB, "PNG", exif=exif_of(orientation)))
    np.testing.assert_array_equal(decoded(data), upright)
    assert decoding.shape_of(data) == upright.shape[:2]


def test_sixteen_bit_colors_that_would_be_black_are_refused(tmp_path):
    # Written by hand: Pillow writes no 16-bit colors. One strip of 2 x 2 pixels of value 200.
    strip = np.full(12, 200, "<u2").tobytes()
    tags = [(256, 4, 1, 2), (257, 4, 1, 2), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 16)]
    tags += [(277, 3, 1, 3), (278, 4, 1, 2), (279, 4, 1, len(strip))]
    head = b"II*\x00" + (16 + len(strip)).to_bytes(4, "little") + np.full(3, 16, "<u2").tobytes() + bytes(2)
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    data = head + strip + struct.pack("<H", len(tags)) + entries + bytes(4)
    assert "16-bit TIFF" in decoding.refusal(data)


def test_an_unused_alpha_channel_of_a_targa_is_ignored():
    pixels = np.dstack([np.asarray(RGB), np.zeros(np.asarray(RGB).shape[:2], "uint8")])
    np.testing.assert_array_equal(decoded(encoded(Image.fromarray(pixels), "TGA")), np.asarray(RGB))
