import numpy as np
import pytest
from keras import ops

from keras_siamim import CosineMomentum, scaled_learning_rate, warmup_cosine


def test_the_rate_warms_up_linearly_and_ends_at_zero():
    schedule = warmup_cosine(0.1, 10, 110)
    rates = [float(ops.convert_to_numpy(schedule(step))) for step in (0, 5, 10, 60, 110)]
    np.testing.assert_allclose(rates, [0, 0.05, 0.1, 0.05, 0], atol=1e-8)


def test_the_rate_may_start_at_its_peak():
    assert float(ops.convert_to_numpy(warmup_cosine(0.1, 0, 10)(0))) == pytest.approx(0.1)


def test_momentum_rises_from_its_initial_value_to_one_and_stays():
    momentum = CosineMomentum(0.9, 100)
    values = [float(ops.convert_to_numpy(momentum(step))) for step in (0, 50, 100, 150)]
    np.testing.assert_allclose(values, [0.9, 0.95, 1, 1], atol=1e-6)


def test_the_learning_rate_of_the_paper_is_one_thousandth():
    assert scaled_learning_rate(6.25e-5, 4096) == pytest.approx(1e-3)


def test_arguments_out_of_range_are_rejected():
    with pytest.raises(ValueError, match="warmup_steps=10, total_steps=10"):
        warmup_cosine(0.1, 10, 10)
    with pytest.raises(ValueError, match="`initial`.*1.5"):
        CosineMomentum(1.5, 10)
    with pytest.raises(ValueError, match="`total_steps`.*0"):
        CosineMomentum(0.9, 0)
