import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim import AdamW, warmup_cosine
from keras_siamim.optimizers import LossScaleOptimizer


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


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_gradients_that_are_not_finite_are_as_good_as_never_given(bad):
    """Among accumulated ones too: the next batch takes the place of the bad one."""
    gradients = [np.full((2, 2), value, "float32") for value in (1.0, 2.0, 3.0, 4.0)]
    spoilt = [*gradients[:1], np.array([[0, bad], [0, 0]], "float32"), *gradients[1:]]
    states = []
    for given in (gradients, spoilt):
        variable = keras.Variable(np.ones((2, 2), "float32"))
        optimizer = AdamW(0.1, gradient_accumulation_steps=2, global_clipnorm=1.0)
        optimizer.build([variable])
        for gradient in given:
            optimizer.apply([ops.convert_to_tensor(gradient)], [variable])
        states.append([ops.convert_to_numpy(v) for v in [variable, *optimizer.variables]])
    for clean, spoilt_state in zip(*states, strict=True):
        np.testing.assert_array_equal(spoilt_state, clean)


def apply(optimizer, gradient, variable):
    """One step; as a function of the state on JAX, where Keras's loss scale takes no other."""
    if keras.config.backend() != "jax":
        optimizer.apply([gradient], [variable])
        return
    state = [v.value for v in optimizer.variables]
    (weight,), state = optimizer.stateless_apply(state, [gradient], [variable.value])
    for kept, value in zip([variable, *optimizer.variables], [weight, *state], strict=True):
        kept.assign(value)


def test_a_loss_scale_is_halved_by_a_skipped_step_and_by_nothing_else():
    variable = keras.Variable(np.ones((2, 2), "float32"))
    optimizer = LossScaleOptimizer(AdamW(0.1), initial_scale=8.0)
    optimizer.build([variable])
    for value, scale, weight_moves in ((np.inf, 4.0, False), (1.0, 4.0, True)):
        before = ops.convert_to_numpy(variable).copy()
        apply(optimizer, ops.full((2, 2), value), variable)
        assert float(ops.convert_to_numpy(optimizer.dynamic_scale)) == scale
        assert (ops.convert_to_numpy(variable) != before).all() == weight_moves


def test_averages_of_weights_are_refused():
    with pytest.raises(ValueError, match="`use_ema` must be False"):
        AdamW(use_ema=True)
