"""Notices when training steps can no longer be taken."""

import keras

SKIPPED = "skipped_in_a_row"


class Diverged(Exception):
    """Training was stopped because its numbers are no longer finite.

    Args:
        skipped: Steps in a row that were skipped.
    """

    def __init__(self, skipped):
        super().__init__(f"{skipped} steps in a row had a loss or a gradient that is not finite")
        self.skipped = skipped


def skipped_in_a_row(logs):
    """How many steps before now were skipped without one that was not; 0 where the model does not count them."""
    return int((logs or {}).get(SKIPPED, 0))


class StopWhenDiverged(keras.callbacks.Callback):
    """Raise `Diverged` out of `fit` once `patience` or more steps in a row were skipped.

    The model is then as the last step that was taken left it. Looks at the logs every `patience` batches only, because
    looking makes the host wait for the device; a run that has diverged is noticed within twice as many.

    Args:
        patience: Steps in a row, 1 or more.

    Raises:
        ValueError: If `patience` is below 1.
    """

    def __init__(self, patience=10):
        super().__init__()
        if patience < 1:
            raise ValueError(f"`patience` must be 1 or more. Received: {patience}.")
        self.patience = patience

    def on_train_begin(self, logs=None):
        """Begin to count."""
        self._batches = 0

    def on_train_batch_end(self, batch, logs=None):
        """Look, every `patience` batches."""
        self._batches += 1
        if self._batches % self.patience == 0:
            skipped = skipped_in_a_row(logs)
            if skipped >= self.patience:
                raise Diverged(skipped)
