import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_siamim.data.sources import array_source, open_source, sample_of
from keras_siamim.data.survey import BATCH, survey

pytestmark = pytest.mark.one_backend


@pytest.fixture
def folder(tmp_path, rng):
    """Two images in color, one of them twice in other formats, a gray one, a truncated one and an empty file."""
    pixels = rng.integers(0, 256, (2, 20, 30, 3)).astype("uint8")
    Image.fromarray(pixels[0]).save(tmp_path / "a.png")
    Image.fromarray(pixels[0]).save(tmp_path / "b.bmp")
    Image.fromarray(pixels[1]).save(tmp_path / "c.jpg")
    Image.fromarray(pixels[1]).convert("L").resize((10, 40)).save(tmp_path / "d.png")
    (tmp_path / "e.jpg").write_bytes((tmp_path / "c.jpg").read_bytes()[:300])
    (tmp_path / "f.png").touch()
    return tmp_path


def test_a_survey_counts_sizes_colors_unreadable_and_equal_images(folder):
    seen = []
    found = survey(open_source(folder), seen.append)
    assert found.sides.tolist() == [[20, 30], [20, 30], [20, 30], [40, 10]]
    assert found.gray.tolist() == [False, False, False, True]
    assert (found.readable, found.different) == (4, 3)
    assert [[path.rsplit("/")[-1] for path in group] for group in found.duplicates()] == [["a.png", "b.bmp"]]
    assert [path.rsplit("/")[-1] for path in found.unreadable] == ["e.jpg", "f.png"]
    assert found.unreadable[str(folder / "f.png")] == "empty file"
    assert seen == [6]


def test_images_of_equal_pixels_in_another_shape_differ():
    pixels = np.arange(24, dtype="uint8")
    sources = [array_source(pixels.reshape(1, *shape, 1)) for shape in ((4, 6), (6, 4))]
    assert len({tuple(survey(source).digests) for source in sources}) == 1  # pixels are equal, and shapes are not
    assert [survey(source).sides.tolist() for source in sources] == [[[4, 6]], [[6, 4]]]


def test_records_and_samples_are_surveyed_batch_by_batch(tmp_path, rng):
    images = rng.integers(0, 256, (2 * BATCH + 1, 4, 4, 3)).astype("uint8")
    with tf.io.TFRecordWriter(str(tmp_path / "train.tfrecord")) as writer:
        for pixels in images:
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[tf.io.encode_png(pixels).numpy()]))
            example = tf.train.Example(features=tf.train.Features(feature={"image": feature}))
            writer.write(example.SerializeToString())
    source, seen = open_source(str(tmp_path / "train.tfrecord")), []
    found = survey(source, seen.append)
    assert (found.readable, found.different, found.unreadable) == (len(images), len(images), {})
    assert seen == [BATCH, 2 * BATCH, 2 * BATCH + 1]
    assert survey(sample_of(source, 5)).readable == 5


def test_a_survey_of_no_readable_image_is_empty(tmp_path):
    (tmp_path / "a.png").touch()
    found = survey(open_source(tmp_path))
    assert (found.readable, found.different, found.duplicates()) == (0, 0, [])
    assert found.sides.shape == (0, 2)
