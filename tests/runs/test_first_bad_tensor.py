import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim.objectives.base import Objective
from keras_siamim.runs.first_bad_tensor import first_bad_tensor


class Distance(Objective):
    """Mean norm of the outputs of two dense layers. A norm of 0 has a NaN gradient."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = keras.layers.Dense(3, name="inner")
        self.outer = keras.layers.Dense(2, name="outer")
        self.inner.build((None, 4))
        self.outer.build((None, 3))
        self.built = True

    def call(self, batch, training=False):
        return self.outer(self.inner(batch["view_1"]))

    def loss_terms(self, outputs):
        return {"loss": ops.mean(ops.sqrt(ops.sum(ops.square(outputs), axis=-1)))}


@pytest.fixture
def model():
    return Distance()


@pytest.fixture
def batch(rng):
    return {"view_1": rng.normal(size=(5, 4)).astype("float32")}


def test_a_finite_step_is_reported(model, batch):
    assert "all values of the step are finite" in first_bad_tensor(model, batch)


def test_a_bad_batch(model, batch):
    batch["view_1"][3, 0] = np.nan
    assert first_bad_tensor(model, batch) == "The batch's 'view_1' has 1 non-finite values of 20."


def test_a_bad_weight(model, batch):
    model.outer.bias.assign([np.inf, 0])
    assert "outer/bias has 1 non-finite values of 2" in first_bad_tensor(model, batch)


def test_the_first_layer_that_overflows(model, batch):
    model.inner.kernel.assign(np.full((4, 3), 3e38))
    batch["view_1"][:] = 10
    sentence = first_bad_tensor(model, batch)
    assert sentence.startswith("The output of the layer")
    assert "inner has 15 non-finite values of 15" in sentence


def test_a_loss_that_overflows(model, batch):
    model.inner.kernel.assign(np.full((4, 3), 1e30))
    assert "loss term 'loss'" in first_bad_tensor(model, batch)


def test_a_gradient_of_a_finite_loss(model, batch):
    batch["view_1"][0] = 0
    sentence = first_bad_tensor(model, batch)
    assert sentence.startswith("The gradient of")
    assert "outer" in sentence
    assert np.isfinite(model.get_weights()[0]).all()
