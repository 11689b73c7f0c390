from pathlib import Path

import keras
import numpy as np
import pytest

from keras_siamim.optimizers import LARS

RECORDED = np.load(Path(__file__).parents[1] / "reference" / "lars.npz")
SETTINGS = {key: float(RECORDED[key]) for key in ("learning_rate", "momentum", "trust_coefficient", "weight_decay")}


def variables():
    return [keras.Variable(RECORDED["weight"].T), keras.Variable(RECORDED["bias"])]


def gradients(step):
    return [
        keras.ops.convert_to_tensor(RECORDED[f"step{step}/grad_weight"].T.copy()),
        keras.ops.convert_to_tensor(RECORDED[f"step{step}/grad_bias"]),
    ]


def check(values, step):
    for value, name in zip(values, ("weight", "bias"), strict=True):
        expected = RECORDED[f"step{step}/{name}"].T
        np.testing.assert_allclose(keras.ops.convert_to_numpy(value), expected, atol=1e-6 * np.abs(expected).max())


def test_three_steps_equal_the_recorded_ones():
    weights, optimizer = variables(), LARS(**SETTINGS)

    for step in range(3):
        optimizer.apply(gradients(step), weights)
        check(weights, step)


def test_it_goes_on_equally_from_its_configuration_and_variables():
    weights, optimizer = variables(), LARS(**SETTINGS)
    optimizer.apply(gradients(0), weights)

    twin = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    twin.build(weights)
    twin.set_weights([keras.ops.convert_to_numpy(v) for v in optimizer.variables])
    twin.apply(gradients(1), weights)

    check(weights, 1)


def test_a_zero_weight_moves_by_the_plain_gradient():
    weight = keras.Variable(np.zeros((2, 2), "float32"))

    LARS(0.5, weight_decay=0.1).apply([keras.ops.ones((2, 2))], [weight])

    np.testing.assert_allclose(keras.ops.convert_to_numpy(weight), -0.5)


@pytest.mark.parametrize("settings", [{"momentum": 1.0}, {"trust_coefficient": 0.0}, {"weight_decay": -0.1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        LARS(**settings)
