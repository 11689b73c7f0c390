"""Saves a run so exactly that it can go on inside an epoch as if it had never stopped."""

import dataclasses
import signal
import threading
import time

import keras

from keras_siamim.callbacks.divergence import skipped_in_a_row
from keras_siamim.runs.checkpoint_files import read_arrays
from keras_siamim.runs.training_state import METRICS, MODEL, OPTIMIZER, restore, training_state

# Saves that may fail one after the other before the run stops.
FAILURES = 3
# Processes that train together stop together, so many batches after the first of them was asked to end: enough for
# all of them to see that it was, wherever the run's folder lies.
AHEAD = 10


class Preempted(Exception):
    """The process was asked to end, by SIGTERM or Ctrl-C; the run is saved where it stands.

    Args:
        place: That `Progress`.
        signal: Number of the signal, or None.
    """

    def __init__(self, place, signal=None):
        super().__init__(f"asked to end; saved after {place.batches} batches")
        self.place = place
        self.signal = signal


class ExactCheckpoint(keras.callbacks.Callback):
    """Save the state of training every so many batches or minutes; come back to it inside an epoch.

    Stands last in the list of callbacks, so that an epoch's log is written before the epoch counts as done. No
    checkpoint is made by the clock while steps are being skipped for numbers that are not finite. A save that fails is
    told and tried again at the next occasion; the third in a row that fails stops the run.

    Args:
        files: `CheckpointFiles`.
        batches_per_epoch: Batches of a whole epoch.
        every_batches: Save after so many batches, or `None`.
        every_minutes: Save after so many minutes, or `None`.
        background: Write in a thread while training goes on; only copying the state to the host is waited for.
        writes: Whether this process writes. Of several that train one model together, one does.
        processes: How many processes train the model together, all with the same folder of checkpoints in sight.
        means: Whether the means of an epoch's losses so far are saved, too. Of several processes of TensorFlow one
            can't read them alone: there an interrupted epoch logs the mean of what is left of it.
        report: Called with one line a message.

    Raises:
        ValueError: If a number is not above 0.
    """

    def __init__(
        self,
        files,
        batches_per_epoch,
        every_batches=None,
        every_minutes=15.0,
        background=True,
        writes=True,
        processes=1,
        means=True,
        report=print,
    ):
        super().__init__()
        for name in ("batches_per_epoch", "every_batches", "every_minutes"):
            if locals()[name] is not None and locals()[name] <= 0:
                raise ValueError(f"`{name}` must be above 0. Received: {locals()[name]}.")
        self.files = files
        self.batches_per_epoch = batches_per_epoch
        self.every_batches = every_batches
        self.every_minutes = every_minutes
        self.background = background
        self.writes = writes
        self.processes = processes
        self.groups = (MODEL, OPTIMIZER, METRICS) if means else (MODEL, OPTIMIZER)
        self.report = report
        self.place = None
        self.saves, self.seconds = 0, 0.0
        self._asked_to_end, self._end_at, self._signal = False, None, None
        self._epoch_metrics = None
        self._logs = None
        self._writer = None
        self._error, self._failures = None, 0

    def start_at(self, place, model, path=None, groups=None):
        """Set where the next `fit` stands, and the model to the state of a checkpoint.

        Args:
            place: A `Progress`.
            model: The compiled model.
            path: Checkpoint to restore, or `None` for the model as it is.
            groups: Which groups of `training_state` to restore; all if left out.

        Raises:
            ValueError: If the checkpoint is of another model or optimizer.
        """
        self.place, self._saved_at, self._saved_on = place, place.batches, time.monotonic()
        self._epoch_metrics = None
        if path is not None:
            arrays = read_arrays(path)
            restore(model, arrays, groups or self.groups)
            if METRICS in self.groups and place.batches % self.batches_per_epoch:
                # `fit` resets metrics as an epoch begins, so these wait for it.
                self._epoch_metrics = {name: a for name, a in arrays.items() if name.startswith(f"{METRICS}/")}

    def ask_to_end(self, signal=None, frame=None):
        """Have the run saved after the batch it is at, and `Preempted` raised; also a signal handler.

        Of several processes any may be asked; all end after the same batch, the tenth from there.
        """
        self._asked_to_end, self._signal = True, signal

    def on_epoch_begin(self, epoch, logs=None):
        """Remember where the epoch began; take up the means of an interrupted one."""
        self._begin = self.place.batches
        if self._epoch_metrics is not None:
            restore(self.model, self._epoch_metrics, (METRICS,))
            self._epoch_metrics = None

    def on_train_batch_end(self, batch, logs=None):
        """Save if it is time to; the last batch of an epoch waits for the epoch's end."""
        self.place = dataclasses.replace(self.place, batches=self._begin + batch + 1)
        self._logs = logs
        if self.place.batches % self.batches_per_epoch:
            self._save_if_due()

    def on_epoch_end(self, epoch, logs=None):
        """Save if it is time to."""
        self._save_if_due()

    def _agree_on_the_end(self):
        if self._end_at is not None:
            return
        if self.processes == 1:
            self._end_at = self.place.batches if self._asked_to_end else None
            return
        if self._asked_to_end:
            self.files.propose_end(self.place.batches + AHEAD)
        self._end_at = self.files.proposed_end()

    def _save_if_due(self):
        self._agree_on_the_end()
        if self._end_at is not None and self.place.batches >= self._end_at:
            self.save_surely(self.model)
            raise Preempted(self.place, self._signal)
        every = self.every_batches
        due = every is not None and self.place.batches // every > self._saved_at // every
        due |= self.every_minutes is not None and time.monotonic() - self._saved_on >= 60 * self.every_minutes
        if due and not skipped_in_a_row(self._logs):
            self.save(self.model)

    def save(self, model):
        """Save now; without `background`, on the disk when this returns."""
        begin = time.perf_counter()
        self._saved_at, self._saved_on = self.place.batches, time.monotonic()
        if self.writes:
            self.wait()
            arrays = training_state(model, self.groups)
            self._writer = threading.Thread(target=self._write, args=(self.place, arrays))
            self._writer.start()
            if not self.background:
                self.wait()
            self.saves += 1
        self.seconds += time.perf_counter() - begin

    def save_surely(self, model):
        """Save now and return when it is on the disk.

        Raises:
            OSError: If it could not be written.
        """
        self.save(model)
        self.wait()
        if self._failures:
            raise self._error

    def wait(self):
        """Wait until what was saved is on the disk.

        Raises:
            OSError: If this was the third save in a row that could not be written.
        """
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failures >= FAILURES:
            raise self._error

    def _write(self, place, arrays):
        try:
            self.files.write(place, arrays)
            self._failures = 0
        except Exception as error:  # whatever it is, the training thread must hear of it
            self._error, self._failures = error, self._failures + 1
            reason = getattr(error, "strerror", None) or error
            self.report(
                f"could not save {self.files.folder / place.name}: {reason}. The checkpoints before it are intact."
            )


class EndOnSignal:
    """While inside, SIGTERM and Ctrl-C ask a callback to save and end; outside, they are what they were.

    A second Ctrl-C ends the process at once, as it would without this.

    Args:
        checkpoint: An `ExactCheckpoint`.
    """

    def __init__(self, checkpoint):
        self.checkpoint = checkpoint

    def __enter__(self):
        self._in_main_thread = threading.current_thread() is threading.main_thread()  # others can't handle signals
        self._before = {}
        if self._in_main_thread:
            for number, handler in ((signal.SIGTERM, self.checkpoint.ask_to_end), (signal.SIGINT, self._interrupt)):
                self._before[number] = signal.signal(number, handler)
        return self

    def _interrupt(self, number, frame):
        signal.signal(number, self._before[number])
        self.checkpoint.ask_to_end(number)

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)
