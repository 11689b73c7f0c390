import keras
import numpy as np
import pytest

from keras_siamim.ops.pooling import POOLINGS, pool_tokens

TOKENS = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")


@pytest.mark.parametrize("pooling", POOLINGS)
def test_arrays_and_tensors_are_pooled_alike(pooling):
    expected = {"token": TOKENS[:, 0], "mean": TOKENS[:, 1:].mean(axis=1)}[pooling]

    array, tensor = pool_tokens(TOKENS, pooling), pool_tokens(keras.ops.convert_to_tensor(TOKENS), pooling)

    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(tensor), expected, atol=1e-6)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="`pooling` must be one of"):
        pool_tokens(TOKENS, "unnormed_token")
