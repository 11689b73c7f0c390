import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim import warmup_cosine
from keras_siamim.optimizers import ParallelAdamW
from tests.optimizers.test_adamw import torch_adamw

RATES, DECAYS = [0.01, 0.1], [0.0, 0.5]


def variables_of(rng):
    shapes = {"kernel": (2, 3, 4), "bias": (2, 4)}
    return [keras.Variable(rng.normal(size=shape).astype("float32"), name=name) for name, shape in shapes.items()]


def test_each_model_takes_the_steps_of_its_own_optimizer(rng):
    variables = variables_of(rng)
    start = [ops.convert_to_numpy(variable).copy() for variable in variables]
    gradients = [[rng.normal(size=value.shape).astype("float32") for value in start] for _ in range(3)]
    optimizer = ParallelAdamW(RATES, DECAYS)
    optimizer.build(variables)
    for step in gradients:
        optimizer.apply([ops.convert_to_tensor(gradient) for gradient in step], variables)
    for number, (variable, value) in enumerate(zip(variables, start, strict=True)):
        for model, (rate, decay) in enumerate(zip(RATES, DECAYS, strict=True)):
            decay = 0.0 if number else decay  # biases do not decay
            expected = torch_adamw(value[model], [step[number][model] for step in gradients], rate, decay)
            np.testing.assert_allclose(ops.convert_to_numpy(variable)[model], expected, atol=1e-6)


def test_a_model_with_gradients_that_are_not_finite_waits_alone(rng):
    variables = variables_of(rng)
    start = [ops.convert_to_numpy(variable).copy() for variable in variables]
    optimizer = ParallelAdamW(RATES, DECAYS)
    optimizer.build(variables)
    gradients = [np.ones_like(value) for value in start]
    gradients[0][1, 0, 0] = np.nan
    optimizer.apply([ops.convert_to_tensor(gradient) for gradient in gradients], variables)
    for variable, value in zip(variables, start, strict=True):
        found = ops.convert_to_numpy(variable)
        np.testing.assert_allclose(found[0], value[0] - 0.01, atol=1e-6)
        np.testing.assert_array_equal(found[1], value[1])


def test_config_round_trip():
    optimizer = ParallelAdamW(RATES, DECAYS, warmup_cosine(1.0, 2, 10), beta_1=0.8)
    again = ParallelAdamW.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    assert again.weight_decays == DECAYS


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("`weight_decays` must have one value per learning rate", {"weight_decays": [0.0]}),
        ("`weight_decays` must have one value", {"learning_rates": [], "weight_decays": []}),
        ("`global_clipnorm` must be None", {"global_clipnorm": 1.0}),
    ],
)
def test_arguments_out_of_range_are_refused(message, arguments):
    with pytest.raises(ValueError, match=message):
        ParallelAdamW(**{"learning_rates": RATES, "weight_decays": DECAYS, **arguments})
