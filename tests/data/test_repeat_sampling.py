import numpy as np
import pytest

from keras_siamim.data.repeat_sampling import repeat_factors, repeated

pytestmark = pytest.mark.one_backend


def test_an_image_has_the_factor_of_its_rarest_class():
    # Class 0 is in all four images, class 1 in one, class 3 in two, class 2 in none.
    images, labels = [0, 1, 1, 2, 3, 3, 3], [0, 0, 3, 0, 1, 0, 3]
    np.testing.assert_allclose(repeat_factors(images, labels, 4, 0.75), [1, 1.5**0.5, 1, 3**0.5])
    np.testing.assert_array_equal(repeat_factors(images, labels, 4, 0.0), np.ones(4))
    np.testing.assert_array_equal(repeat_factors([], [], 2, 0.5), np.ones(2))


def test_a_threshold_above_one_is_refused():
    with pytest.raises(ValueError, match="`threshold` must be in .*Received: 1.5"):
        repeat_factors([0], [0], 1, 1.5)


def test_images_are_repeated_as_often_as_their_factors_on_average():
    factors = np.array([1.0, 1.25, 2.5, 0.0])
    counts = [np.bincount(repeated(factors, seed=3, epoch=epoch), minlength=4) for epoch in range(2000)]
    np.testing.assert_allclose(np.mean(counts, axis=0), factors, atol=0.04)
    assert np.min(counts, axis=0).tolist() == [1, 1, 2, 0]
    assert np.max(counts, axis=0).tolist() == [1, 2, 3, 0]


def test_coins_depend_on_seed_and_epoch_alone():
    factors = np.full(100, 1.5)
    first = repeated(factors, seed=3, epoch=1)
    np.testing.assert_array_equal(first, repeated(factors, seed=3, epoch=1))
    for seed, epoch in ((3, 2), (4, 1)):
        assert not np.array_equal(first, repeated(factors, seed, epoch))
