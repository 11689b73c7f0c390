"""Checkpoints from which training resumes inside an epoch as if it had not been interrupted."""

import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_siamim.callbacks.divergence import skipped_in_a_row
from keras_siamim.runs.checkpoint_files import CheckpointFiles, Progress, read_arrays
from keras_siamim.runs.training_state import METRICS, MODEL, OPTIMIZER, restore, training_state

# Number of consecutive failed saves that stops training.
MAX_FAILED_SAVES = 3
# Processes that train together stop this many batches after the first request. By then all of them have read the
# request, even from slow shared storage.
END_DELAY = 10


class Preempted(Exception):
    """Exception that stops training on request, by SIGTERM or Ctrl-C, after the run is saved.

    Args:
        progress: `Progress` of the saved run.
        signal: Integer. Number of the signal. Defaults to None.
    """

    def __init__(self, progress: Progress, signal: int | None = None) -> None:
        super().__init__(f"stopped on request; saved after {progress.batches} batches")
        self.progress = progress
        self.signal = signal


class ExactCheckpoint(keras.callbacks.Callback):
    """Callback that saves the complete training state at intervals of batches or minutes, also inside an epoch.

    It must be the last callback, so that the log of an epoch is written before the epoch counts as trained. While steps
    are skipped because of non-finite values, the callback does not save. A failed save is reported and retried at the
    next checkpoint; three consecutive failures stop training.

    Args:
        files: A `CheckpointFiles`.
        batches_per_epoch: Integer, positive. Number of batches per epoch.
        every_batches: Integer, positive. Number of batches between checkpoints. Defaults to None, no such interval.
        every_minutes: Float, positive. Minutes between checkpoints, or None for no such interval. Defaults to 15.
        background: Bool. Write in a thread, so that training waits only for the copy to the host. Defaults to True.
        writes: Bool. Write checkpoints; one of the processes that train together does. Defaults to True.
        processes: Integer. Number of processes that train together and share the checkpoint folder. Defaults to 1.
        means: Bool. Also save the running means of the losses of the current epoch. If False, the log of an interrupted
            epoch has the means of its remaining batches. Defaults to True.
        report: Function of one line of text. Defaults to `print`.

    Raises:
        ValueError: If an interval or `batches_per_epoch` is not positive.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> checkpoint = ExactCheckpoint(CheckpointFiles("checkpoints"), batches_per_epoch=4)
        >>> checkpoint.start_at(Progress(), model)
        >>> _ = model.fit(np.ones((4, 3)), np.ones((4, 1)), batch_size=1, verbose=0, callbacks=[checkpoint])
        >>> checkpoint.progress.batches
        4
    """

    def __init__(
        self,
        files: CheckpointFiles,
        batches_per_epoch: int,
        every_batches: int | None = None,
        every_minutes: float | None = 15.0,
        background: bool = True,
        writes: bool = True,
        processes: int = 1,
        means: bool = True,
        report: Callable[[str], object] = print,
    ) -> None:
        super().__init__()
        counts = {
            "batches_per_epoch": batches_per_epoch,
            "every_batches": every_batches,
            "every_minutes": every_minutes,
        }
        for name, value in counts.items():
            if value is not None and value <= 0:
                raise ValueError(f"`{name}` must be positive. Received: {value}.")
        self.files = files
        self.batches_per_epoch = batches_per_epoch
        self.every_batches = every_batches
        self.every_minutes = every_minutes
        self.background = background
        self.writes = writes
        self.processes = processes
        # With several processes on TensorFlow, one process cannot read the means alone.
        self.groups: tuple[str, ...] = (MODEL, OPTIMIZER, METRICS) if means else (MODEL, OPTIMIZER)
        self.report = report
        # Set by `start_at`, before training.
        self.progress: Progress
        self.saves, self.seconds = 0, 0.0
        self._end_requested = False
        self._end_at: int | None = None
        self._signal: int | None = None
        self._epoch_metrics: dict[str, np.ndarray] | None = None
        self._logs: dict[str, Any] | None = None
        self._writer: threading.Thread | None = None
        self._error: Exception | None = None
        self._failures = 0

    def start_at(
        self,
        progress: Progress,
        model: keras.Model | None,
        path: Path | None = None,
        groups: Sequence[str] | None = None,
    ) -> None:
        """Set the progress from which the next `fit` continues, and restore the model from a checkpoint.

        Args:
            progress: A `Progress`.
            model: Compiled Keras model. It may be None if `path` is None.
            path: Path of the checkpoint. Defaults to None, which leaves the model as it is.
            groups: Names of the groups of `training_state` to restore. Defaults to all.

        Raises:
            ValueError: If the checkpoint is of another model or optimizer.
        """
        self.progress, self._saved_at, self._saved_on = progress, progress.batches, time.monotonic()
        self._epoch_metrics = None
        if path is not None:
            arrays = read_arrays(path)
            restore(model, arrays, groups or self.groups)
            if METRICS in self.groups and progress.batches % self.batches_per_epoch:
                # `fit` resets metrics at the beginning of an epoch, so they are restored after that.
                self._epoch_metrics = {name: a for name, a in arrays.items() if name.startswith(f"{METRICS}/")}

    def request_end(self, signal: int | None = None, frame: object = None) -> None:
        """Request that training is saved and stopped after the current batch, by raising `Preempted`.

        The method is also a signal handler. If several processes train together, a request to one of them stops all
        after the same batch, the tenth from the current one.

        Args:
            signal: Integer. Number of the signal. Defaults to None.
            frame: Unused argument of signal handlers.
        """
        self._end_requested, self._signal = True, signal

    def on_epoch_begin(self, epoch, logs=None):
        self._begin = self.progress.batches
        if self._epoch_metrics is not None:
            restore(self.model, self._epoch_metrics, (METRICS,))
            self._epoch_metrics = None

    def on_train_batch_end(self, batch, logs=None):
        self.progress = dataclasses.replace(self.progress, batches=self._begin + batch + 1)
        self._logs = logs
        # After the last batch, `on_epoch_end` saves, when the log is written.
        if self.progress.batches % self.batches_per_epoch:
            self._save_if_due()

    def on_epoch_end(self, epoch, logs=None):
        self._save_if_due()

    def _agree_on_end(self):
        if self._end_at is not None:
            return
        if self.processes == 1:
            self._end_at = self.progress.batches if self._end_requested else None
            return
        if self._end_requested:
            self.files.propose_end(self.progress.batches + END_DELAY)
        self._end_at = self.files.proposed_end()

    def _save_if_due(self):
        self._agree_on_end()
        if self._end_at is not None and self.progress.batches >= self._end_at:
            self.save_and_wait(self.model)
            raise Preempted(self.progress, self._signal)
        every = self.every_batches
        due = every is not None and self.progress.batches // every > self._saved_at // every
        due |= self.every_minutes is not None and time.monotonic() - self._saved_on >= 60 * self.every_minutes
        if due and not skipped_in_a_row(self._logs):
            self.save(self.model)

    def save(self, model: keras.Model) -> None:
        """Save a checkpoint now. Without `background`, it is on the disk when the method returns.

        Args:
            model: Compiled Keras model.

        Raises:
            OSError: If this or an earlier save was the third consecutive one that failed.
        """
        begin = time.perf_counter()
        self._saved_at, self._saved_on = self.progress.batches, time.monotonic()
        if self.writes:
            self.wait()
            arrays = training_state(model, self.groups)
            self._writer = threading.Thread(target=self._write, args=(self.progress, arrays))
            self._writer.start()
            if not self.background:
                self.wait()
            self.saves += 1
        self.seconds += time.perf_counter() - begin

    def save_and_wait(self, model: keras.Model) -> None:
        """Save a checkpoint now, and return when it is on the disk.

        Args:
            model: Compiled Keras model.

        Raises:
            OSError: If the checkpoint cannot be written.
        """
        self.save(model)
        self.wait()
        if self._failures and self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Wait until the background thread has written its checkpoint.

        Raises:
            OSError: If the save was the third consecutive one that failed.
        """
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failures >= MAX_FAILED_SAVES and self._error is not None:
            raise self._error

    def _write(self, progress, arrays):
        try:
            self.files.write(progress, arrays)
            self._failures = 0
        except Exception as error:  # `wait` raises it in the training thread
            self._error, self._failures = error, self._failures + 1
            reason = getattr(error, "strerror", None) or error
            self.report(
                f"could not save {self.files.folder / progress.name}: {reason}. Earlier checkpoints are intact."
            )


class EndOnSignal:
    """Context manager in which SIGTERM and Ctrl-C save the run and stop training.

    A second Ctrl-C stops the process immediately. On exit, the earlier signal handlers are restored.

    Args:
        checkpoint: An `ExactCheckpoint`.
    """

    def __init__(self, checkpoint: ExactCheckpoint) -> None:
        self.checkpoint = checkpoint

    def __enter__(self) -> "EndOnSignal":
        self._before: dict[int, Any] = {}
        # Only the main thread can set signal handlers.
        if threading.current_thread() is threading.main_thread():
            for number, handler in ((signal.SIGTERM, self.checkpoint.request_end), (signal.SIGINT, self._interrupt)):
                self._before[number] = signal.signal(number, handler)
        return self

    def _interrupt(self, number, frame):
        signal.signal(number, self._before[number])
        self.checkpoint.request_end(number)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
