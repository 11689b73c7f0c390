import time
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_siamim.callbacks import input_timing
from keras_siamim.callbacks.input_timing import DataWaitMonitor
from keras_siamim.data.input_timing import InputTimer


def test_elements_pass_through_unchanged_and_are_counted():
    def slow(number):
        time.sleep(0.01)
        return np.full((2, 3), number, "float32")

    dataset = tf.data.Dataset.range(5).map(lambda number: tf.numpy_function(slow, [number], tf.float32))
    timer = InputTimer()
    found = list(timer.timed(dataset).as_numpy_iterator())
    np.testing.assert_array_equal([x[0, 0] for x in found], np.arange(5))
    assert timer.batches == 5
    assert timer.seconds > 0.03


class Clock(keras.callbacks.Callback):
    """Clock that each batch advances, first by the time that training waits for it, then by that of its step."""

    def __init__(self, wait, step):
        super().__init__()
        self.wait, self.step = wait, step
        self.now = self.seconds = 0.0

    def perf_counter(self):
        return self.now

    def on_train_batch_begin(self, batch, logs=None):
        self.seconds += self.wait
        self.now += self.wait + self.step


def fit(clock, monkeypatch):
    monkeypatch.setattr(input_timing, "time", types.SimpleNamespace(perf_counter=clock.perf_counter))
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    monitor = DataWaitMonitor(clock)
    x, y = np.ones((16, 3), "float32"), np.ones((16, 1), "float32")
    history = model.fit(x, y, batch_size=2, epochs=2, verbose=0, shuffle=False, callbacks=[clock, monitor])
    return monitor, history


def test_slow_data_is_logged_and_a_hint_printed_once(monkeypatch, capsys):
    monitor, history = fit(Clock(wait=3.0, step=1.0), monkeypatch)
    assert monitor.shares == [0.75, 0.75]
    assert history.history["data_wait"] == monitor.shares
    assert capsys.readouterr().out.count("waits for its data 75% of the time") == 1


def test_fast_data_prints_no_hint(monkeypatch, capsys):
    monitor, _ = fit(Clock(wait=0.1, step=1.9), monkeypatch)
    np.testing.assert_allclose(monitor.shares, 0.05)
    assert "waits" not in capsys.readouterr().out


def test_a_limit_outside_0_to_1_is_refused():
    with pytest.raises(ValueError, match=r"`limit` must be in \[0, 1\]. Received: 2"):
        DataWaitMonitor(InputTimer(), limit=2)
