"""Detection of input-bound training: the share of time that training waits for data."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:  # the timer needs TensorFlow, this module does not
    from keras_siamim.data.input_timing import InputTimer

HINT = (
    "Training is input bound: the model waits for its data {share:.0%} of the time. Possible remedies, in this order: "
    "keep encoded images in memory (`keras_siamim.data.sources.indexed.cached`), make the views on the training device "
    "(`pretrain --views-on-device`, or `training_batches(on_device=True)` and `set_views` of an "
    "objective), store images closer to the size of the views, or give the process more CPU cores."
)


class DataWaitMonitor(keras.callbacks.Callback):
    """Callback that logs the share of each epoch's time spent waiting for data as `data_wait`, and `seconds_per_step`.

    Put it before callbacks that work at the end of an epoch, whose time it would count. The first batch of an epoch is
    excluded. Once per run, the callback prints a hint if the share exceeds `limit`.

    Attributes:
        shares: List of floats in [0, 1], one per epoch.

    Args:
        timer: `InputTimer` whose `timed` wraps the training data.
        limit: Float in [0, 1]. Share above which the hint is printed. Defaults to 0.1.

    Raises:
        ValueError: If `limit` is outside [0, 1].

    Example:
        >>> import tensorflow as tf
        >>> from keras_siamim.data.input_timing import InputTimer
        >>> timer, model = InputTimer(), keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> batches = timer.timed(tf.data.Dataset.from_tensors((tf.ones((2, 3)), tf.ones((2, 1)))).repeat(4))
        >>> "data_wait" in model.fit(batches, shuffle=False, verbose=0, callbacks=[DataWaitMonitor(timer, 1.0)]).history
        True
    """

    def __init__(self, timer: InputTimer, limit: float = 0.1):
        super().__init__()
        if not 0 <= limit <= 1:
            raise ValueError(f"`limit` must be in [0, 1]. Received: {limit}.")
        self.timer = timer
        self.limit = limit
        self.shares: list[float] = []

    def on_train_begin(self, logs=None):
        self.shares = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = None

    def on_train_batch_end(self, batch, logs=None):
        # Timing starts after the first batch of an epoch, which compiles the model and fills the buffers.
        if self._start is None:
            self._start = (time.perf_counter(), self.timer.seconds)
            self._batches = 0
        else:
            self._batches += 1

    def on_epoch_end(self, epoch, logs=None):
        if self._start is None:
            return
        elapsed = time.perf_counter() - self._start[0]
        share = min(1.0, (self.timer.seconds - self._start[1]) / elapsed) if elapsed > 0 else 0.0
        self.shares.append(share)
        if logs is not None:
            logs["data_wait"] = share
            if self._batches:
                logs["seconds_per_step"] = elapsed / self._batches
        if share > self.limit and sum(known > self.limit for known in self.shares) == 1:
            print("\n" + HINT.format(share=share))
