"""Every operation against PIL, as torchvision uses it, on real photographs; mean difference at most one gray level."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from keras_siamim.data.views import color
from tests.data.images.photographs import photographs

STRENGTHS = [0.6, 0.85, 1.2, 1.4]


def apply(operation, *arguments):
    """Apply an operation to both photographs on the backend under test; return gray levels."""
    image = color.bands(keras.ops, photographs()[:, ::2, ::2])
    arguments = [keras.ops.convert_to_tensor(np.array([argument] * 2)) for argument in arguments]
    result = keras.ops.convert_to_numpy(operation(keras.ops, image, *arguments))
    return np.rint(np.moveaxis(result, 2, -1)).clip(0, 255)


def with_pil(function):
    return np.stack([np.asarray(function(Image.fromarray(photo[::2, ::2]))) for photo in photographs()])


def assert_one_gray_level(found, expected):
    assert np.abs(found - expected.astype("float32")).mean() <= 1.0


@pytest.mark.parametrize("factor", STRENGTHS)
def test_brightness(factor):
    found = apply(lambda ops, image, f: color.blend(ops, image, 0.0, f), np.float32(factor))
    assert_one_gray_level(found, with_pil(lambda image: ImageEnhance.Brightness(image).enhance(factor)))


@pytest.mark.parametrize("factor", STRENGTHS)
def test_contrast(factor):
    found = apply(
        lambda ops, image, f: color.blend(ops, image, color.mean_gray(ops, color.gray(image)), f), np.float32(factor)
    )
    assert_one_gray_level(found, with_pil(lambda image: ImageEnhance.Contrast(image).enhance(factor)))


@pytest.mark.parametrize("factor", [0.0, 0.8, 1.2])
def test_saturation(factor):
    found = apply(lambda ops, image, f: color.blend(ops, image, color.gray(image), f), np.float32(factor))
    assert_one_gray_level(found, with_pil(lambda image: ImageEnhance.Color(image).enhance(factor)))


def pil_hue(image, shift):
    hue, saturation, value = image.convert("HSV").split()
    turned = (np.asarray(hue).astype(int) + int(shift * 255)) % 256
    return Image.merge("HSV", (Image.fromarray(turned.astype("uint8")), saturation, value)).convert("RGB")


@pytest.mark.parametrize("shift", [-0.1, -0.04, 0.0, 0.07, 0.1])
def test_hue(shift):
    # PIL rotates by whole 255ths and ours by any shift, so both get the same whole number.
    found = apply(color.adjust_hue, np.float32(int(shift * 255) / 256))
    assert_one_gray_level(found, with_pil(lambda image: pil_hue(image, shift)))


def test_gray():
    image = color.bands(keras.ops, photographs())
    found = keras.ops.convert_to_numpy(color.gray(image))
    expected = np.stack([np.asarray(Image.fromarray(photo).convert("L")) for photo in photographs()])
    assert np.abs(found[:, :, 0] - expected).max() <= 0.51


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 1.5, 2.0])
def test_blur(sigma):
    found = apply(color.gaussian_blur, np.float32(sigma))
    assert_one_gray_level(found, with_pil(lambda image: image.filter(ImageFilter.GaussianBlur(sigma))))


@pytest.mark.parametrize("where", [tf, keras.ops])
def test_the_bounded_blur_of_large_images_omits_negligible_weights(where, rng):
    image = rng.uniform(0, 255, (2, 50, 3, 61)).astype("float32")
    sigma = np.array([0.4, 1.0], "float32")
    given = [keras.ops.convert_to_tensor(x) if where is keras.ops else tf.constant(x) for x in (image, sigma)]
    exact, fast = (keras.ops.convert_to_numpy(color.gaussian_blur(where, *given, widest)) for widest in (None, 1.0))
    assert 0 < np.abs(fast - exact).max() < 0.05


def test_blur_is_a_gaussian_of_the_given_sigma():
    dot = np.zeros((1, 41, 3, 31), "float32")
    dot[:, 20, :, 15] = 1.0
    blurred = color.gaussian_blur(keras.ops, dot, keras.ops.convert_to_tensor([1.7]))
    blurred = keras.ops.convert_to_numpy(blurred)[0, :, 0]
    y, x = np.mgrid[:41, :31]
    assert abs(blurred.sum() - 1) < 1e-5
    np.testing.assert_allclose((blurred * (y - 20.0) ** 2).sum(), 1.7**2, rtol=1e-3)
    np.testing.assert_allclose((blurred * (x - 15.0) ** 2).sum(), 1.7**2, rtol=1e-3)


def test_a_sigma_of_zero_changes_nothing_and_a_flat_image_stays_flat():
    image = color.bands(keras.ops, photographs()[:, :40, :50])
    same = color.gaussian_blur(keras.ops, image, keras.ops.convert_to_tensor([0.0, 0.0]))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(same), keras.ops.convert_to_numpy(image))
    flat = color.gaussian_blur(keras.ops, keras.ops.ones((2, 9, 3, 7)), keras.ops.convert_to_tensor([0.8, 2.0]))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(flat), 1.0, atol=1e-6)


def test_solarize():
    found = apply(color.solarize, True)
    np.testing.assert_array_equal(found, with_pil(lambda image: ImageOps.solarize(image, 128)))
    np.testing.assert_array_equal(apply(color.solarize, False), photographs()[:, ::2, ::2])


def test_jitter_follows_each_images_own_order():
    photos = photographs()[:, ::2, ::2]
    orders = np.array([[3, 0, 2, 1], [1, 2, 3, 0]], "int32")
    factors = np.array([[1.3, 0.7, 1.2, 0.08], [0.7, 1.4, 0.8, -0.1]], "float32")
    image = color.bands(keras.ops, photos)
    found = color.jitter(keras.ops, image, keras.ops.convert_to_tensor(orders), keras.ops.convert_to_tensor(factors))
    operations = [
        lambda image, f: ImageEnhance.Brightness(image).enhance(f),
        lambda image, f: ImageEnhance.Contrast(image).enhance(f),
        lambda image, f: ImageEnhance.Color(image).enhance(f),
        pil_hue,
    ]
    for k, photo in enumerate(photos):
        expected = Image.fromarray(photo)
        for operation in orders[k]:
            expected = operations[operation](expected, float(factors[k, operation]))
        ours = np.moveaxis(keras.ops.convert_to_numpy(found[k]), 1, -1)
        # PIL rounds to whole levels after each of the four operations.
        assert np.abs(ours - np.asarray(expected)).mean() < 2.5


def test_strengths_that_change_nothing():
    image = color.bands(keras.ops, photographs()[:, ::4, ::4])
    order = keras.ops.convert_to_tensor(np.array([[0, 1, 2, 3]] * 2, "int32"))
    nothing = keras.ops.convert_to_tensor(np.array([[1, 1, 1, 0]] * 2, "float32"))
    found = color.jitter(keras.ops, image, order, nothing)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), keras.ops.convert_to_numpy(image), atol=1e-3)


def test_normalize_and_back():
    photos = photographs()[:, ::4, ::4]
    normal = keras.ops.convert_to_numpy(color.normalize(keras.ops, color.bands(keras.ops, photos)))
    expected = (photos / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(normal, expected, atol=1e-5)
    np.testing.assert_array_equal(color.denormalize(normal), photos)
