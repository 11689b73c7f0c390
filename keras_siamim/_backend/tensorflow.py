"""TensorFlow: variables change in place; replicas are those of `tf.distribute`."""

import tensorflow as tf


class MomentumTrainStep:
    """Moves the target, then runs Keras's own step."""

    def train_step(self, data):
        """One training step; `data` as Keras hands it over."""
        self.update_target()
        return super().train_step(data)


def replica_count():
    """Number of replicas that share a global batch."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def mean_over_replicas(x):
    """Mean of `x` over replicas, differentiable."""
    context = tf.distribute.get_replica_context()
    if replica_count() == 1 or context is None:
        return x
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, x)


def replica_rank():
    """Place of this replica among those that share a global batch, from 0."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def concat_over_replicas(x):
    """The tensors of all replicas, in the order of their ranks, joined along axis 0; no gradient flows."""
    context = tf.distribute.get_replica_context()
    if replica_count() == 1 or context is None:
        return tf.stop_gradient(x)
    return tf.stop_gradient(context.all_gather(x, axis=0))
