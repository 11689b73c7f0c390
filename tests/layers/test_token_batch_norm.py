import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim.layers import TokenBatchNorm


def normalized(x, layer, **kwargs):
    return ops.convert_to_numpy(layer(ops.convert_to_tensor(x), **kwargs))


def test_statistics_span_images_and_tokens(rng):
    x = (4 + 3 * rng.normal(size=(3, 5, 7))).astype("float32")
    y = normalized(x, TokenBatchNorm(), training=True)
    expected = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_running_averages_equal_those_of_pytorch(rng):
    x = rng.normal(size=(3, 5, 7)).astype("float32")
    layer = TokenBatchNorm()
    normalized(x, layer, training=True)
    np.testing.assert_allclose(ops.convert_to_numpy(layer.moving_mean), 0.1 * x.mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.moving_variance), 0.9 + 0.1 * x.var((0, 1), ddof=1), atol=1e-6
    )
    y = normalized(x, layer)
    np.testing.assert_allclose(y, (x - 0.1 * x.mean((0, 1))) / np.sqrt(0.9 + 0.1 * x.var((0, 1), ddof=1)), atol=1e-3)


def test_frozen_variables_still_use_batch_statistics(rng):
    x = (4 + rng.normal(size=(3, 5, 7))).astype("float32")
    layer = TokenBatchNorm()
    layer.build(x.shape)
    layer.gamma.trainable = layer.beta.trainable = False
    assert abs(normalized(x, layer, training=True).mean()) < 1e-5


def test_large_means_do_not_cancel(rng):
    x = (3000 + rng.normal(size=(8, 16, 4))).astype("float32")
    np.testing.assert_allclose(normalized(x, TokenBatchNorm(), training=True).std((0, 1)), 1, atol=1e-2)


def test_half_precision_keeps_float32_statistics(rng):
    x = rng.normal(size=(3, 5, 7)).astype("float32")
    layer = TokenBatchNorm(dtype="mixed_bfloat16")
    y = layer(ops.convert_to_tensor(x), training=True)
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(layer.moving_mean.dtype) == "float32"
    rounded = ops.convert_to_numpy(ops.cast(ops.cast(x, "bfloat16"), "float32"))
    np.testing.assert_allclose(ops.convert_to_numpy(layer.moving_mean), 0.1 * rounded.mean((0, 1)), atol=1e-6)


def test_one_image_is_rejected_in_training(rng):
    with pytest.raises(ValueError, match="2 or more images.*batch size 1"):
        normalized(np.zeros((1, 5, 7), "float32"), TokenBatchNorm(), training=True)


def test_config_round_trip():
    layer = TokenBatchNorm(epsilon=1e-3, momentum=0.2, affine=False, name="norm")
    assert TokenBatchNorm.from_config(layer.get_config()).get_config() == layer.get_config()
