"""One readable line per epoch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_siamim.callbacks.reference_curve import describe_place

# Name in the logs: format of the value.
_PARTS: dict[str, Callable[[float], str]] = {
    "loss": lambda value: f"loss {value:.4f}",
    "val_loss": lambda value: f"val_loss {value:.4f}",
    "knn": lambda value: f"k-NN {100 * value:.1f} %",
    "probe": lambda value: f"probe {100 * value:.1f} %",
    "retrieval": lambda value: f"right place {100 * value:.1f} %",
    "rank": lambda value: f"rank {value:.0f}",
    "learning_rate": lambda value: f"lr {_short_exponent(value)}",
    "target_momentum": lambda value: f"momentum {value:.3f}",
    "seconds_per_step": lambda value: f"{1000 * value:.0f} ms/step",
    "data_wait": lambda value: f"data wait {100 * value:.0f} %",
}


def _short_exponent(value):
    mantissa, exponent = f"{value:.1e}".split("e")
    return "0" if value == 0 else f"{mantissa}e{int(exponent)}"


def format_logs(logs: Mapping[str, Any], seconds_left: float | None = None) -> str:
    """Return one readable line of the logs of an epoch; values that they lack are left out.

    Args:
        logs: Dictionary from names to numbers.
        seconds_left: Float. Expected time to the end of training. Defaults to None, unknown.

    Example:
        >>> logs = {"loss": 0.8282, "knn": 0.612, "rank": 30.9, "learning_rate": 2.8e-3, "skipped": 2}
        >>> format_logs(logs, seconds_left=720)
        'loss 0.8282 · k-NN 61.2 % · rank 31 · lr 2.8e-3 · skipped 2 · 12 min left'
    """
    parts = [form(float(logs[name])) for name, form in _PARTS.items() if name in logs]
    if logs.get("skipped"):
        parts.append(f"skipped {int(logs['skipped'])}")
    if seconds_left is not None:
        parts.append(f"{format_duration(seconds_left)} left")
    if "loss" in logs and "reference_low" in logs:
        parts.append(describe_place(*(float(logs[name]) for name in ("loss", "reference_low", "reference_high"))))
    return " · ".join(parts)


def format_duration(seconds: float) -> str:
    """Return a duration in its largest useful unit.

    Example:
        >>> format_duration(48), format_duration(720), format_duration(9000), format_duration(400_000)
        ('48 s', '12 min', '2.5 h', '4.6 days')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def print_line(line: str) -> None:
    """Print a line to the standard output at once, with `?` for characters that the terminal cannot show."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(line.encode(encoding, "replace").decode(encoding), flush=True)


class LogLine(keras.callbacks.Callback):
    """Callback that reports one readable line per epoch, and during long epochs one per `every_seconds`.

    The first line of a run comes after `first_seconds` at most, with an estimate of the time left.

    Use it in place of the progress bar (`verbose=0`), after all callbacks that add to the logs. It measures the time
    per step itself unless a callback such as `DataWaitMonitor` has logged `seconds_per_step`.

    Args:
        epochs: Integer. Epochs of the complete run, for the time left. Defaults to None, those of `fit`.
        every_seconds: Float above 0. Time between two lines within an epoch. Defaults to 60.
        first_seconds: Float above 0. Time from the first batch to the first line of a run. Defaults to 5.
        report: Function of one line of text. Defaults to printing.

    Raises:
        ValueError: If a time is not positive.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
        >>> model.compile("sgd", "mse")
        >>> line = LogLine(report=lambda text: print(text[:23]))
        >>> _ = model.fit(np.ones((2, 3)), np.ones((2, 1)), verbose=0, callbacks=[line])
        epoch 1/1 · loss 1.0000
    """

    def __init__(
        self,
        epochs: int | None = None,
        every_seconds: float = 60.0,
        first_seconds: float = 5.0,
        report: Callable[[str], object] = print_line,
    ):
        super().__init__()
        for name, value in (("every_seconds", every_seconds), ("first_seconds", first_seconds)):
            if not value > 0:
                raise ValueError(f"`{name}` must be above 0. Received: {value}.")
        self.epochs = epochs
        self.every_seconds = every_seconds
        self.first_seconds = first_seconds
        self.report = report

    def on_train_begin(self, logs=None):
        self._epoch_seconds: list[float] = []
        self._is_first = True

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._batches = epoch, 0
        self._begin = self._reported = time.perf_counter()
        self._first_end = None

    def on_train_batch_end(self, batch, logs=None):
        self._batches += 1
        now = self._last_end = time.perf_counter()
        if self._first_end is None:
            self._first_end = now  # the first batch of a run compiles
        elif now - self._reported >= self.every_seconds or (
            self._is_first and now - self._first_end >= self.first_seconds
        ):
            self._reported, self._is_first = now, False
            steps, seconds = self.params.get("steps"), self._seconds_per_step(now)
            name = f"epoch {self._epoch + 1}/{self._last_epoch()}, step {batch + 1}" + (f"/{steps}" if steps else "")
            left = (self._last_epoch() - self._epoch) * steps - batch - 1 if steps else 0
            line = format_logs({**(logs or {}), "seconds_per_step": seconds}, left * seconds if left else None)
            self.report(f"{name} · {line}")

    def on_epoch_end(self, epoch, logs=None):
        now = time.perf_counter()
        self._epoch_seconds.append(now - self._begin)
        self._is_first = False
        logs = dict(logs or {})
        if self._batches > 1:
            logs.setdefault("seconds_per_step", self._seconds_per_step(self._last_end))
        # The first epoch includes compilation: as long as there is no other, the steps after the first one count.
        per_step = logs.get("seconds_per_step", self._epoch_seconds[0] / max(self._batches, 1))
        timed = self._epoch_seconds[1:] or [float(per_step) * self._batches]
        left = sum(timed) / len(timed) * (self._last_epoch() - epoch - 1)
        self.report(f"epoch {epoch + 1}/{self._last_epoch()} · {format_logs(logs, left if left else None)}")

    def _last_epoch(self):
        return self.epochs or self.params.get("epochs") or self._epoch + 1

    def _seconds_per_step(self, now):
        return (now - self._first_end) / (self._batches - 1)
