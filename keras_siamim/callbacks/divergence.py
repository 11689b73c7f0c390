"""Stopping of a training run that has diverged."""

import keras

from keras_siamim.types import Tensor

SKIPPED = "skipped_in_a_row"


class Diverged(Exception):
    """Exception that stops training after too many consecutive skipped steps.

    Attributes:
        skipped: Integer. Number of consecutive steps skipped.

    Args:
        skipped: Integer. Number of consecutive steps skipped.

    Example:
        >>> Diverged(10).skipped
        10
    """

    def __init__(self, skipped: int):
        super().__init__(f"{skipped} steps in a row had a non-finite loss or gradient")
        self.skipped = skipped


def skipped_in_a_row(logs: dict[str, Tensor] | None) -> int:
    """Return the number of consecutive steps skipped so far.

    Args:
        logs: Dictionary. Logs of a training batch, or `None`.

    Returns:
        Integer, 0 or more; 0 if the model does not log it.

    Example:
        >>> skipped_in_a_row({"loss": 0.5, "skipped_in_a_row": 3}), skipped_in_a_row(None)
        (3, 0)
    """
    return int((logs or {}).get(SKIPPED, 0))


class StopWhenDiverged(keras.callbacks.Callback):
    """Callback that raises `Diverged` once `patience` or more consecutive steps were skipped.

    The model keeps the weights of its last finite step. The callback reads the logs every `patience` batches, so it
    detects divergence within `2 * patience` steps.

    Args:
        patience: Integer, 1 or more. Number of consecutive skipped steps. Defaults to 10.

    Raises:
        ValueError: If `patience` is below 1.

    Example:
        >>> callback = StopWhenDiverged(patience=1)
        >>> callback.on_train_begin()
        >>> callback.on_train_batch_end(0, {"skipped_in_a_row": 1})
        Traceback (most recent call last):
        keras_siamim.callbacks.divergence.Diverged: 1 steps in a row had a non-finite loss or gradient
    """

    def __init__(self, patience: int = 10):
        super().__init__()
        if patience < 1:
            raise ValueError(f"`patience` must be 1 or more. Received: {patience}.")
        self.patience = patience

    def on_train_begin(self, logs=None):
        self._batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self._batches += 1
        # Reading the logs makes the host wait for the device.
        if self._batches % self.patience == 0:
            skipped = skipped_in_a_row(logs)
            if skipped >= self.patience:
                raise Diverged(skipped)
