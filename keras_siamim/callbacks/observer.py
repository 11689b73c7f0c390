"""Base class of callbacks that observe training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_siamim.files import printable


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its class.

    Example:
        >>> first_line(ValueError("bad value")), first_line(MemoryError())
        ('bad value', 'MemoryError')
    """
    return printable((str(error).splitlines() or [type(error).__name__])[0])


class Observer(keras.callbacks.Callback):
    """Callback that only observes training: its own errors end no run, and are reported once.

    Attributes:
        last_epoch: Integer or None. Number of epochs of a run that several calls of `fit` train together. None, the
            default, stands for the epochs of `fit`.

    Args:
        report: Function of one line of text. Defaults to `print`.

    Example:
        >>> observer = Observer()
        >>> observer.attempt("rank", lambda: 1 / 0)
        no rank: division by zero. Training goes on.
        >>> observer.attempt("rank", lambda: 1 / 0)
    """

    def __init__(self, report: Callable[[str], object] = print):
        super().__init__()
        self.report = report
        self.last_epoch: int | None = None
        self._reported: set[str] = set()

    def attempt(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return the result of a function, or None if it raises an error.

        The first error of each name is reported. Later calls try again, since a cause such as an unreachable file may
        be temporary.

        Args:
            name: String. What the function measures or writes.
            function: Function to call.
            *arguments: Its arguments.
        """
        try:
            return function(*arguments)
        except Exception as error:  # noqa: BLE001  a failed observation must not end training
            if name not in self._reported:
                self._reported.add(name)
                self.report(f"no {name}: {first_line(error).rstrip('.')}. Training goes on.")
            return None

    def is_due(self, epoch: int, every_epochs: int) -> bool:
        """Return True every `every_epochs` epochs and after the last epoch.

        Args:
            epoch: Integer. Epoch that has ended, from 0.
            every_epochs: Integer, 1 or more.
        """
        return (epoch + 1) % every_epochs == 0 or self.is_last(epoch)

    def is_last(self, epoch: int) -> bool:
        """Return True after the last epoch.

        Args:
            epoch: Integer. Epoch that has ended, from 0.
        """
        return epoch + 1 == (self.last_epoch or self.params.get("epochs"))
