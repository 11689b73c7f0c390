import numpy as np
import pytest

from keras_siamim.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt

pytestmark = pytest.mark.one_backend


def photograph(height=64, width=80):
    """Return an image of smooth light, a few edges and fine texture, in natural colors."""
    y, x = np.mgrid[:height, :width] / 64
    light = np.stack([0.5 + 0.3 * np.sin(5 * x + k) * np.cos(4 * y) for k in range(3)], axis=-1)
    light[20:40, 10:30] *= 0.5
    light += np.random.default_rng(0).normal(0, 0.02, light.shape)
    return np.rint(np.clip(light, 0, 1) * 255).astype("uint8")


def distance(corruption, severity):
    return np.abs(corrupt(photograph(), corruption, severity).astype(float) - photograph()).mean()


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_every_corruption_keeps_the_shape_repeats_by_seed_and_grows(corruption):
    image = photograph()

    first = corrupt(image, corruption, 3, seed=(1, 2))

    assert first.shape == image.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, corrupt(image, corruption, 3, seed=(1, 2)))
    assert 0.5 < distance(corruption, 1) < 100
    if corruption not in ("elastic_transform", "glass_blur"):  # their severities differ in kind, not only in strength
        assert distance(corruption, 5) > distance(corruption, 1)


@pytest.mark.parametrize("corruption", ["gaussian_noise", "motion_blur", "snow", "frost", "fog", "elastic_transform"])
def test_other_seeds_give_other_results(corruption):
    assert (corrupt(photograph(), corruption, 3, 1) != corrupt(photograph(), corruption, 3, 2)).any()


def test_noise_has_the_documented_strength():
    gray = np.full((200, 200, 3), 128, "uint8")

    assert corrupt(gray, "gaussian_noise", 1).std() == pytest.approx(0.08 * 255, rel=0.03)
    assert corrupt(gray, "shot_noise", 1).std() == pytest.approx(np.sqrt(0.5 / 60) * 255, rel=0.03)
    extremes = np.isin(corrupt(gray, "impulse_noise", 5), (0, 255)).mean()
    assert extremes == pytest.approx(0.27, abs=0.01)


def test_contrast_shrinks_the_deviation_and_keeps_the_mean():
    image, changed = photograph().astype(float), corrupt(photograph(), "contrast", 1).astype(float)

    np.testing.assert_allclose(changed.mean(axis=(0, 1)), image.mean(axis=(0, 1)), atol=0.5)
    assert changed.std() == pytest.approx(0.4 * image.std(), rel=0.2)


@pytest.mark.parametrize("corruption", ["defocus_blur", "motion_blur", "zoom_blur", "glass_blur"])
def test_blurs_keep_a_flat_image_flat(corruption):
    flat = np.full((40, 40, 3), 77, "uint8")
    for severity in SEVERITIES:
        np.testing.assert_array_equal(corrupt(flat, corruption, severity), flat)


def test_small_images_are_corrupted_too():
    for corruption in CORRUPTIONS:
        assert corrupt(photograph(8, 8), corruption, 5).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("`image` must be", (photograph() / 255, "fog", 1)),
        ("`corruption` must be one of", (photograph(), "rain", 1)),
        (r"`severity` must be an integer in \[1, 5\]", (photograph(), "fog", 6)),
    ],
)
def test_malformed_arguments_raise(message, arguments):
    with pytest.raises(ValueError, match=message):
        corrupt(*arguments)
