import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim._backend import kernels
from keras_siamim.layers import Dense, Mlp


def gradients(layer, x, cotangent):
    """Gradients of sum(layer(x) * cotangent) by the layer's weights, from one step of gradient descent at rate 1."""
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, layer(inputs))
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(1.0), loss=lambda y, prediction: ops.sum(prediction * y) / len(x))
    model.train_on_batch(x, cotangent * len(x))
    return [old - new for old, new in zip(before, model.get_weights(), strict=True)]


def test_dense_and_its_gradients_are_those_of_keras(rng):
    x, cotangent = rng.normal(size=(2, 3, 5)).astype("float32"), rng.normal(size=(2, 3, 4)).astype("float32")
    ours, theirs = Dense(4), keras.layers.Dense(4)
    ours.build(x.shape)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(*(ops.convert_to_numpy(layer(x)) for layer in (ours, theirs)), atol=1e-6)
    for mine, other in zip(gradients(ours, x, cotangent), gradients(theirs, x, cotangent), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)


def test_dense_follows_the_dtype_policy(rng):
    x = rng.normal(size=(2, 3, 5)).astype("float32")
    assert keras.backend.standardize_dtype(Dense(4, dtype="mixed_bfloat16")(x).dtype) == "bfloat16"


@pytest.mark.parametrize("training", [False, True])
def test_gelu_is_the_exact_one(training, rng):
    x = rng.normal(size=(3, 4)).astype("float32")
    expected = [0.5 * value * (1 + math.erf(value / math.sqrt(2))) for value in x.ravel().tolist()]
    y = ops.convert_to_numpy(kernels.gelu(ops.convert_to_tensor(x), training))
    np.testing.assert_allclose(y.ravel(), expected, atol=1e-6)


def test_the_gradient_through_gelu_is_the_exact_one(rng):
    x, cotangent = rng.normal(size=(2, 3, 4)).astype("float32"), rng.normal(size=(2, 3, 4)).astype("float32")
    layer = Mlp(6)
    layer.build(x.shape)
    expand, _, reduce, _ = (weight.astype("float64") for weight in layer.get_weights())
    hidden = (x @ expand).reshape(-1, 6)
    cdf = 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    slope = cdf + hidden * np.exp(-(hidden**2) / 2) / math.sqrt(2 * math.pi)
    expected = x.reshape(-1, 4).T @ ((cotangent.reshape(-1, 4) @ reduce.T) * slope)
    np.testing.assert_allclose(gradients(layer, x, cotangent)[0], expected, atol=1e-5)
