"""Log of a run: one row per epoch, as a CSV table and for TensorBoard."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_siamim.files import write_atomically
from keras_siamim.visualization.events import EventWriter


class RunLog(keras.callbacks.Callback):
    """Callback that writes the logs of every epoch to `log.csv` and to event files in `tensorboard/`.

    Event files need TensorFlow; without it, the callback writes the table alone. If a run resumes from an earlier
    epoch, the callback first deletes the rows of the epochs that will be trained again.

    Attributes:
        events: `EventWriter` of the event files, for images of other callbacks.

    Args:
        folder: `pathlib.Path` of the run folder.
        writes: Bool. Write files; one of the processes that train together does. Defaults to True.
    """

    def __init__(self, folder: Path, writes: bool = True) -> None:
        super().__init__()
        self.path = folder / "log.csv"
        self.events = EventWriter(folder / "tensorboard")
        self.writes = writes

    def on_train_begin(self, logs=None):
        self._first = True

    def on_epoch_begin(self, epoch, logs=None):
        if self._first and self.writes and self.path.exists():
            rows = read_rows(self.path)
            kept = [row for row in rows if int(row["epoch"]) < epoch]
            if len(kept) < len(rows) or not kept:
                write_rows(self.path, kept)
        self._first = False

    def on_epoch_end(self, epoch, logs=None):
        if not self.writes:
            return
        row = {"epoch": epoch, **{name: float(value) for name, value in (logs or {}).items()}}
        rows = read_rows(self.path) if self.path.exists() else []
        write_rows(self.path, [*rows, row])
        self.events.scalars(epoch, {name: value for name, value in row.items() if name != "epoch"})


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a log.

    Args:
        path: Path of `log.csv`.

    Returns:
        A list of dictionaries from column names to text, one per epoch.
    """
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of a log, atomically.

    Args:
        path: Path of the CSV file.
        rows: Sequence of dictionaries from column names to values. Columns that appear in later rows only come last.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, *([row.get(name, "") for name in columns] for row in rows)]
    with write_atomically(path) as file:
        file.write("".join(",".join(map(str, line)) + "\n" for line in lines if line).encode())
