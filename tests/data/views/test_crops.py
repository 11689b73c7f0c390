import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_siamim.data import random
from keras_siamim.data.views import color, crops
from tests.data.images.photographs import photographs

PAPER = {"area": (0.08, 1.0), "aspect": (3 / 4, 4 / 3), "flip_probability": 0.5}
BOXES = np.array([[10, 20, 400, 500, 0], [100, 37, 150, 190, 1], [0, 0, 427, 640, 1], [200, 300, 31, 25, 0]], "int32")


def draw_boxes(height, width, count=10_000, **settings):
    samples = random.uniforms(random.stream_keys(0, random.VIEWS, 0, np.arange(count)), crops.NUM_SAMPLES)
    sides = (tf.fill([count], side) for side in (height, width))
    return crops.draw_crop(tf.constant(samples), *sides, **{**PAPER, **settings}).numpy()


def with_pil(image, box, size):
    top, left, height, width, flip = (int(number) for number in box)
    image = Image.fromarray(image[:, ::-1] if flip else image)
    return np.asarray(image.crop((left, top, left + width, top + height)).resize(size[::-1], Image.BICUBIC))


@pytest.mark.one_backend
@pytest.mark.parametrize(("height", "width"), [(480, 640), (224, 224), (64, 64)])
def test_areas_aspects_and_flips_have_the_documented_distribution(height, width):
    top, left, box_height, box_width, flip = draw_boxes(height, width).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + box_height <= height).all()
    assert (left + box_width <= width).all()
    assert abs(flip.mean() - 0.5) < 0.02
    # An area above 3/4 excludes some aspects; below, area and aspect are independent.
    area = box_height * box_width / (height * width)
    small = area < 0.5
    shares = np.histogram(area[small], 7, (0.08, 0.5))[0] / small.sum()
    np.testing.assert_allclose(shares, 1 / 7, atol=0.02)
    aspect = np.log(box_width / box_height)[small]
    assert abs(aspect.mean()) < 0.02
    shares = np.histogram(aspect, 6, (np.log(3 / 4), np.log(4 / 3)))[0] / small.sum()
    np.testing.assert_allclose(shares, 1 / 6, atol=0.03)
    # Positions are uniform, ends included.
    margin = height - box_height
    position = (top + 0.5) / (margin + 1)
    shares = np.histogram(position, 5, (0, 1))[0] / len(position)
    np.testing.assert_allclose(shares, 0.2, atol=0.05 if height == 64 else 0.02)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(1, 1, (0, 0, 1, 1)), (1000, 1, (499, 0, 1, 1)), (10, 20_000, (0, 9993, 10, 13)), (400, 100, (133, 0, 133, 100))],
)
def test_without_a_fitting_box_the_center_is_taken(height, width, expected):
    boxes = draw_boxes(height, width, 50, area=(0.9, 1.0))
    assert set(map(tuple, boxes[:, :4].tolist())) == {expected}


@pytest.mark.one_backend
@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_flips_follow_their_probability(probability):
    assert set(draw_boxes(50, 60, 500, flip_probability=probability)[:, 4]) == {int(probability)}


@pytest.mark.one_backend
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("size", [(224, 224), (96, 64)])
def test_resampling_equals_pil(box, size):
    image = photographs()[0]
    found = crops.crop_and_resize(tf.constant(image), tf.constant(box), size).numpy()
    # PIL rounds and clips to whole levels between its two passes, which is visible at hard edges.
    difference = np.abs(found.astype(int) - with_pil(image, box, size))
    assert difference.max() <= 6
    assert difference.mean() < 0.3


def test_matrices_resample_as_pil_does():
    images = photographs()[[0, 1, 0, 1]]
    bands = color.bands(keras.ops, images)
    found = crops.crop_and_resize_equal(keras.ops, bands, keras.ops.convert_to_tensor(BOXES), (64, 48))
    found = np.moveaxis(keras.ops.convert_to_numpy(found), 2, -1)
    for k in range(4):
        difference = np.abs(found[k] - with_pil(images[k], BOXES[k], (64, 48)))
        assert difference.max() <= 6
        assert difference.mean() < 0.3


@pytest.mark.one_backend
def test_one_pixel_fills_a_view():
    image = tf.constant([[[7, 8, 9]]], tf.uint8)
    found = crops.crop_and_resize(image, tf.constant([0, 0, 1, 1, 1]), (8, 6)).numpy()
    np.testing.assert_array_equal(found, np.broadcast_to([7, 8, 9], (8, 6, 3)))
