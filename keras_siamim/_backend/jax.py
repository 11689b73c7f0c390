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


def dot_product_attention(query, key, value):
    """Attention of (batch, tokens, heads, channels) tensors, scaled by 1/sqrt(channels).

    XLA's CPU has no float16 product that sums in float32, which JAX's own attention asks for: there it is float32.
    """
    if query.dtype == "float16" and jax.default_backend() == "cpu":
        query, key, value = (keras.ops.cast(x, "float32") for x in (query, key, value))
        return keras.ops.cast(keras.ops.nn.dot_product_attention(query, key, value), "float16")
    return keras.ops.nn.dot_product_attention(query, key, value)
