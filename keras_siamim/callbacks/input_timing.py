"""Starvation made visible: the share of training that is spent waiting for data."""

import time

import keras

HINT = (
    "The model waits for its data {share:.0%} of the time. What may help, in this order: keep encoded images in memory "
    "(`data.sources.cached`), let the device make the colors (`training_batches(on_device=True)` with "
    "`data.device.RenderViews`), store images nearer the size of the views, or give the process more cores."
)


class StarvationMonitor(keras.callbacks.Callback):
    """Log the share of every epoch's time spent waiting as `data_wait`; say what to try when it is large.

    Args:
        clock: `data.waiting.WaitingClock` whose `timed` wraps the training data.
        limit: share, 0...1, above which the hint is printed, once a run.

    Example:
    ```python
    clock = WaitingClock()
    model.fit(clock.timed(batches), steps_per_epoch=steps, callbacks=[StarvationMonitor(clock)])
    ```
    """

    def __init__(self, clock, limit=0.1):
        super().__init__()
        if not 0 <= limit <= 1:
            raise ValueError(f"limit must be within 0...1; received {limit}.")
        self.clock = clock
        self.limit = limit
        self.shares = []

    def on_train_begin(self, logs=None):
        """Forget earlier runs."""
        self.shares = []

    def on_epoch_begin(self, epoch, logs=None):
        """Start the epoch's two clocks at its second batch: the first one compiles the model and fills the buffers."""
        self._start = None

    def on_train_batch_end(self, batch, logs=None):
        """Start the clocks after the first batch."""
        if self._start is None:
            self._start = (time.perf_counter(), self.clock.seconds)

    def on_epoch_end(self, epoch, logs=None):
        """Report the epoch's share."""
        if self._start is None:
            return
        elapsed = time.perf_counter() - self._start[0]
        share = min(1.0, (self.clock.seconds - self._start[1]) / elapsed) if elapsed > 0 else 0.0
        self.shares.append(share)
        if logs is not None:
            logs["data_wait"] = share
        if share > self.limit and sum(known > self.limit for known in self.shares) == 1:
            print("\n" + HINT.format(share=share))
