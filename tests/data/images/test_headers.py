import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_siamim.data.images import decoding, headers, preprocessing
from tests.data.images import bad_files
from tests.data.images.bad_files import PHOTO, RGB, encoded, exif, with_segment

pytestmark = pytest.mark.one_backend

SHAPE = PHOTO.shape[:2]


JPEG, PNG = encoded(RGB, "JPEG"), encoded(RGB, "PNG")
LARGER = RGB.resize((48, 32))
PLAIN = {
    "jpeg": JPEG,
    "gray jpeg": encoded(RGB.convert("L"), "JPEG"),
    "progressive jpeg": encoded(RGB, "JPEG", progressive=True),
    "jpeg of full colors": encoded(RGB, "JPEG", subsampling=0, quality=100),
    "jpeg of small tables": encoded(RGB, "JPEG", optimize=True),
    "jpeg with a comment": with_segment(JPEG, b"\xfe", b"by hand"),
    "jpeg without JFIF": JPEG[:2] + JPEG[20:],
    "png": PNG,
    "gray png": encoded(RGB.convert("L"), "PNG"),
}
OTHER = {
    "jpeg of another size": encoded(LARGER, "JPEG"),
    "jpeg with an orientation": encoded(RGB, "JPEG", exif=exif()),
    "jpeg with an orientation behind its frame": with_segment(JPEG, b"\xe1", exif().tobytes(), b"\xff\xc4"),
    "cmyk jpeg": encoded(RGB.convert("CMYK"), "JPEG"),
    "jpeg with a long profile": with_segment(JPEG, b"\xe2", bytes(3000)),
    "jpeg of another size with a thumbnail of this": with_segment(
        encoded(LARGER, "JPEG"), b"\xe0", b"JFXX\x00\x10" + JPEG
    ),
    "png of another size": encoded(LARGER, "PNG"),
    "png with an orientation": encoded(RGB, "PNG", exif=exif()),
    "png with a transparent color": encoded(RGB, "PNG", transparency=(0, 0, 0)),
    "palette": encoded(RGB.convert("P"), "PNG"),
    "alpha": encoded(bad_files.with_alpha(), "PNG"),
    "gif": encoded(RGB, "GIF"),
    "empty file": b"",
    "text": b"no image",
    "start of a jpeg": JPEG[:100],
    "start of a png": PNG[:20],
}


@pytest.mark.parametrize(("files", "plain"), [(PLAIN, True), (OTHER, False)])
def test_plain_images_of_one_size_are_distinguished_from_all_others(files, plain):
    found = headers.are_plain(tf.constant(list(files.values())), SHAPE).numpy()
    assert dict(zip(files, found, strict=True)) == dict.fromkeys(files, plain)


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_image_of_a_batch_is_plain_by_itself(name):
    alone = [is_plain(tf.constant(PLAIN[name]), 10_000) for is_plain in (headers.is_plain_jpeg, headers.is_plain_png)]
    assert sum(map(bool, alone)) == 1


def test_an_orientation_behind_a_thumbnail_with_a_scan_is_found():
    file = with_segment(JPEG, b"\xe1", exif().tobytes())
    thumbnail = b"Photoshop 3.0\x008BIM\x04\x0c" + JPEG + bytes(preprocessing.HEADER)
    file = with_segment(file, b"\xed", thumbnail, before=b"\xff\xe1")
    assert tf.strings.regex_full_match(file[: preprocessing.HEADER], preprocessing.SCAN)
    assert file.index(b"Exif") > preprocessing.HEADER
    assert not headers.is_plain_jpeg(tf.constant(file), 10_000)


def test_only_the_header_of_a_plain_file_is_searched():
    for file in (PLAIN[name] for name in PLAIN if "jpeg" in name):
        assert tf.strings.regex_full_match(file[: preprocessing.HEADER], preprocessing.SCAN)


def test_a_batch_decodes_like_single_images():
    same = [*PLAIN.values()] * 4
    upright = encoded(RGB.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif())
    for files in (same, [*same, upright]):
        together = tf.function(decoding.decode_equal)(tf.constant(files), SHAPE).numpy()
        alone = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files[: len(same)]]
        np.testing.assert_array_equal(together[: len(same)], alone)
        np.testing.assert_array_equal(together[-1], decoding.decode(files[-1]).numpy())


@pytest.mark.parametrize("broken", [OTHER["png of another size"], PNG[: len(PNG) // 2], JPEG[: len(JPEG) // 2], b""])
def test_one_broken_image_fails_all(broken):
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnknownError)):
        tf.function(decoding.decode_equal)(tf.constant([JPEG, broken]), SHAPE)
