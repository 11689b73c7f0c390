"""JAX: a step maps `state` to a new `state`; arrays are global, so nothing is left to reduce over replicas."""

import jax
import keras


class MomentumTrainStep:
    """Moves the target, then runs Keras's own step."""

    def train_step(self, state, data):
        """One training step: `state` are Keras's four lists of arrays, `data` as Keras hands it over."""
        trainable, non_trainable, optimizer, metrics = state
        before = [
            *zip(self.trainable_variables, trainable, strict=True),
            *zip(self.non_trainable_variables, non_trainable, strict=True),
        ]
        with keras.StatelessScope(state_mapping=before) as scope:
            self.update_target()
        non_trainable = [scope.get_current_value(variable) for variable in self.non_trainable_variables]
        return super().train_step((trainable, non_trainable, optimizer, metrics), data)


def replica_count():
    """A JAX program sees the global batch: one."""
    return 1


def mean_over_replicas(x):
    """Nothing to do: statistics of the global array span all devices."""
    return x


def replica_rank():
    """A JAX program sees the global batch: 0."""
    return 0


def concat_over_replicas(x):
    """Nothing to join: arrays are global."""
    return jax.lax.stop_gradient(x)
