import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_siamim.callbacks.input_timing import StarvationMonitor
from keras_siamim.data.input_timing import InputTimer


def data(seconds, count=None):
    """Batches that take their time to come."""

    def slow(number):
        time.sleep(seconds)
        return np.full((2, 3), number, "float32")

    numbers = tf.data.Dataset.range(100).take(count or 100).repeat(1 if count else -1)
    made = numbers.map(lambda number: tf.ensure_shape(tf.numpy_function(slow, [number], tf.float32), (2, 3)))
    return made.map(lambda x: (x, x[:, :1]))


def fit(dataset, clock, step_seconds=0.0, epochs=2):
    class Slow(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            time.sleep(step_seconds)

    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    monitor = StarvationMonitor(clock)
    history = model.fit(
        clock.timed(dataset), epochs=epochs, steps_per_epoch=8, verbose=0, shuffle=False, callbacks=[monitor, Slow()]
    )
    return monitor, history


def test_elements_pass_through_unchanged_and_are_counted():
    clock = InputTimer()
    found = list(clock.timed(data(0.01, count=5)).as_numpy_iterator())
    np.testing.assert_array_equal([x[0, 0] for x, _ in found], np.arange(5))
    assert clock.batches == 5
    assert clock.seconds > 0.03


def test_slow_data_is_seen_and_a_hint_given_once(capsys):
    clock = InputTimer()
    monitor, history = fit(data(0.03), clock)
    assert all(share > 0.5 for share in monitor.shares)
    assert history.history["data_wait"] == monitor.shares
    assert capsys.readouterr().out.count("waits for its data") == 1


def test_fast_data_is_not_blamed(capsys):
    clock = InputTimer()
    monitor, _ = fit(data(0.0), clock, step_seconds=0.05)
    assert all(share < 0.1 for share in monitor.shares)
    assert "waits" not in capsys.readouterr().out


def test_a_limit_outside_0_to_1_is_refused():
    with pytest.raises(ValueError, match="limit must be within 0...1; received 2"):
        StarvationMonitor(InputTimer(), limit=2)
