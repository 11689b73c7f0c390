"""Logging of learning rate and target momentum."""

import keras
from keras import ops


class LogSchedules(keras.callbacks.Callback):
    """Callback that adds `learning_rate` and, for a model with a target, `target_momentum` to the logs of every epoch.

    The logged values are those of the next step.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(0.5), "mse")
        >>> model.fit(np.ones((2, 3)), np.ones((2, 1)), verbose=0, callbacks=[LogSchedules()]).history["learning_rate"]
        [0.5]
    """

    # Per epoch and not per step, because reading the values makes JAX wait for the device.
    def on_epoch_end(self, epoch, logs=None):
        logs["learning_rate"] = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        if hasattr(self.model, "momentum_at"):
            step = int(ops.convert_to_numpy(self.model.batches_seen)) // self.model.batches_per_step()
            logs["target_momentum"] = float(ops.convert_to_numpy(self.model.momentum_at(step)))
