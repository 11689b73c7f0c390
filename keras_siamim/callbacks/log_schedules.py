"""What the schedules are at, beside the loss."""

import keras
from keras import ops


class LogSchedules(keras.callbacks.Callback):
    """Adds `learning_rate` and, where there is a target, `target_momentum` to the logs of every epoch.

    They are those of the next step. Once an epoch, because looking at them makes JAX wait for the device.
    """

    def on_epoch_end(self, epoch, logs=None):
        """Add both to `logs`."""
        logs["learning_rate"] = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        if hasattr(self.model, "momentum_at"):
            step = int(ops.convert_to_numpy(self.model.batches_seen)) // self.model.batches_per_step()
            logs["target_momentum"] = float(ops.convert_to_numpy(self.model.momentum_at(step)))
