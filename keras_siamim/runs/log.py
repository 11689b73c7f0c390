"""The log of a run: one row an epoch, as a table and for TensorBoard."""

import csv
import os
import socket
import time

import keras

from keras_siamim.runs.checkpoint_files import write_text


class RunLog(keras.callbacks.Callback):
    """Write every epoch's logs to `log.csv` and, with TensorFlow at hand, to event files in `tensorboard/`.

    Where a run goes on from a checkpoint, rows of epochs that are trained again are dropped from the table first.

    Args:
        folder: The run folder, a `Path`.
        writes: Whether this process writes.
    """

    def __init__(self, folder, writes=True):
        super().__init__()
        self.path = folder / "log.csv"
        self.events = folder / "tensorboard"
        self.writes = writes
        self._events = None

    def on_train_begin(self, logs=None):
        """Be ready to drop rows."""
        self._first = True

    def on_epoch_begin(self, epoch, logs=None):
        """Drop rows from this epoch on, where training begins with it."""
        if self._first and self.writes and self.path.exists():
            rows = read_rows(self.path)
            kept = [row for row in rows if int(row["epoch"]) < epoch]
            if len(kept) < len(rows) or not kept:
                write_text(self.path, _table(kept))
        self._first = False

    def on_epoch_end(self, epoch, logs=None):
        """Add the epoch's row."""
        if not self.writes:
            return
        row = {"epoch": epoch, **{name: float(value) for name, value in (logs or {}).items()}}
        rows = read_rows(self.path) if self.path.exists() else []
        write_text(self.path, _table([*rows, row]))
        self._write_events(epoch, row)

    def _write_events(self, epoch, row):
        # An event file is a TFRecord of `Event` messages; writing it as such does not need TensorBoard itself.
        try:
            import tensorflow as tf
        except ImportError:
            return
        now, message = time.time(), tf.compat.v1.Event
        if self._events is None:
            self.events.mkdir(exist_ok=True)
            name = f"events.out.tfevents.{int(now)}.{socket.gethostname()}.{os.getpid()}"
            self._events = tf.io.TFRecordWriter(str(self.events / name))
            self._events.write(message(wall_time=now, file_version="brain.Event:2").SerializeToString())
        values = [{"tag": name, "simple_value": value} for name, value in row.items() if name != "epoch"]
        event = message(wall_time=now, step=epoch, summary={"value": values})
        self._events.write(event.SerializeToString())
        self._events.flush()


def read_rows(path):
    """Rows of a log as dictionaries of text."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _table(rows):
    # The columns are those of the first row, and any that came later behind them.
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, *([row.get(name, "") for name in columns] for row in rows)]
    return "".join(",".join(map(str, line)) + "\n" for line in lines if line)
