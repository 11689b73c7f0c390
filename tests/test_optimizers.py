import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim import AdamW, warmup_cosine


def torch_adamw(weight, gradients, rate, decay, beta_1=0.9, beta_2=0.95, epsilon=1e-8):
    """AdamW as PyTorch documents it, in float64."""
    first = second = 0.0
    for step, gradient in enumerate(gradients, 1):
        weight = weight * (1 - rate * decay)
        first = beta_1 * first + (1 - beta_1) * gradient
        second = beta_2 * second + (1 - beta_2) * gradient**2
        root = np.sqrt(second / (1 - beta_2**step))
        weight = weight - rate / (1 - beta_1**step) * first / (root + epsilon)
    return weight


def test_steps_are_pytorchs_and_only_matrices_decay(rng):
    kernel, bias = rng.normal(size=(4, 3)), rng.normal(size=3)
    gradients = [[rng.normal(size=(4, 3)) * 1e-7, rng.normal(size=3) * 1e-7] for _ in range(3)]
    variables = [keras.Variable(kernel.astype("float32")), keras.Variable(bias.astype("float32"))]
    optimizer = AdamW(0.01, weight_decay=0.1)
    optimizer.build(variables)
    for step in gradients:
        optimizer.apply([ops.convert_to_tensor(g.astype("float32")) for g in step], variables)
    for variable, start, index, decay in zip(variables, (kernel, bias), (0, 1), (0.1, 0.0), strict=True):
        expected = torch_adamw(start, [g[index] for g in gradients], 0.01, decay)
        np.testing.assert_allclose(ops.convert_to_numpy(variable), expected, atol=1e-6)


def test_config_round_trip():
    optimizer = AdamW(0.01, weight_decay=0.1, global_clipnorm=1.0, gradient_accumulation_steps=2)
    assert AdamW.from_config(optimizer.get_config()).get_config() == optimizer.get_config()


def test_a_schedule_counts_steps_not_accumulated_batches():
    variable = keras.Variable(np.zeros((2, 2), "float32"))
    optimizer = AdamW(warmup_cosine(0.1, 10, 20), gradient_accumulation_steps=4)
    optimizer.build([variable])
    for _ in range(8):
        optimizer.apply([ops.ones((2, 2))], [variable])
    assert float(ops.convert_to_numpy(optimizer.learning_rate)) == pytest.approx(0.02)
