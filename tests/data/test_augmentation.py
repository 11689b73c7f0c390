import numpy as np
import pytest
import tensorflow as tf

from keras_siamim.data.augmentation import erase_randomly, fine_tuning_batches, rand_augment

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def photographs(images=16, size=32):
    """Return smooth images in [0, 255] that every augmentation changes."""
    ramp = np.linspace(0, 255, size)
    grid = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 128.0), axis=-1)
    return np.repeat(grid[None], images, axis=0).astype("float32")


def dataset(images=16):
    pixels = photographs(images)
    return tf.data.Dataset.from_tensor_slices((pixels, np.arange(images) % 4)).batch(8)


def test_rand_augment_changes_some_images_and_keeps_the_range():
    layer = rand_augment(9, seed=1)
    batches = tf.data.Dataset.from_tensors(photographs(64)).map(lambda images: layer(images, training=True))

    augmented = next(iter(batches)).numpy()

    changed = np.abs(augmented - photographs(64)).max(axis=(1, 2, 3)) > 1
    assert 0.4 < changed.mean() < 0.95
    assert augmented.min() >= -1e-3
    assert augmented.max() <= 255.001


def test_erasing_affects_the_given_share_of_the_images():
    images = tf.zeros((2000, 16, 16, 3))

    erased = erase_randomly(images, tf.constant([1, 2]), probability=0.25).numpy()

    touched = (erased != 0).any(axis=(1, 2, 3))
    assert touched.mean() == pytest.approx(0.25, abs=0.03)
    covered = (erased[touched] != 0).all(axis=-1).mean(axis=(1, 2))
    assert covered.mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.02)
    assert erased[erased != 0].std() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(erased, erase_randomly(images, tf.constant([1, 2]), 0.25).numpy())


def test_targets_are_mixed_distributions_over_the_classes():
    dataset_of_batches = fine_tuning_batches(dataset(), 4)
    batches = list(dataset_of_batches)

    assert len(batches) == len(dataset_of_batches) == 2
    for images, targets in batches:
        assert images.shape == (8, 32, 32, 3)
        assert images.dtype == targets.dtype == tf.float32
        np.testing.assert_allclose(targets.numpy().sum(axis=1), 1, atol=1e-5)
    assert max(np.max((t.numpy() > 1e-3).sum(axis=1)) for _, t in batches) == 2


def test_with_every_augmentation_disabled_images_are_only_normalized():
    off = {"mixup": 0, "cutmix": 0, "magnitude": 0, "erasing": 0}

    images, targets = next(iter(fine_tuning_batches(dataset(), 4, mean=(0, 0, 0), std=(1, 1, 1), **off)))

    np.testing.assert_allclose(images, photographs(8) / 255, atol=1e-6)
    np.testing.assert_array_equal(targets.numpy().argmax(axis=1), np.arange(8) % 4)


@pytest.mark.parametrize("settings", [{"cutmix": 1.5}, {"erasing": -0.1}, {"mixup": -1}, {"magnitude": 11}])
def test_settings_out_of_range_raise(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        fine_tuning_batches(dataset(), 4, **settings)
