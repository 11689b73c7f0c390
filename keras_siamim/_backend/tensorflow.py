"""TensorFlow: variables change in place; replicas are those of `tf.distribute`.

What a step assigns inside a replica, it assigns to that replica's own copy (all but the optimizer's counter). Copies of
weights stay equal because every replica computes the same from what was reduced; those of metrics are summed when read.
"""

import json
import os

import numpy as np
import tensorflow as tf

from keras_siamim._backend.replicas import Distribution, shift_seeds


class TrainStep:
    """Puts `begin_step` and `end_step` around Keras's own step; see `objectives.base.Objective` for the two."""

    def train_step(self, data):
        """One training step; `data` as Keras hands it over."""
        # Not before there are data, or the step that finds them at their end would begin.
        with tf.control_dependencies([value for value in tf.nest.flatten(data) if tf.is_tensor(value)]):
            count = tf.identity(self.step_counter)
            before = [tf.identity(variable) for variable in self.rollback_variables]
            self.begin_step()
            # A stream of random numbers of its own for every replica; the states stay equal between steps.
            if replica_count() > 1:
                shift_seeds(self.seed_states, replica_rank())
        super().train_step(data)
        if replica_count() > 1:
            shift_seeds(self.seed_states, -replica_rank())
        self.end_step(before, taken=tf.not_equal(tf.identity(self.step_counter), count))
        return _means_over_workers(self.step_logs())

    def test_step(self, data):
        """One evaluation step."""
        return _means_over_workers(super().test_step(data))

    def make_train_function(self, force=False):
        """Build the optimizer first: one that makes its variables inside the step has TensorFlow trace it twice."""
        if not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        super().make_train_function(force)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Do nothing: objectives are built from the start, and Keras's way fails on batches of several workers."""


def _means_over_workers(logs):
    """Logs as Keras can reduce them: of several workers it takes means along an axis that its scalars lack."""
    if not isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy):
        return logs
    return {name: tf.cast(value, tf.float32)[None] for name, value in logs.items()}


def replica_count():
    """Number of replicas that share a global batch."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def _replica_context():
    """That of `tf.distribute`, or None where there is nobody to speak with."""
    return tf.distribute.get_replica_context() if replica_count() > 1 else None


def mean_over_replicas(x):
    """Mean of `x` over replicas, differentiable."""
    context = _replica_context()
    return x if context is None else context.all_reduce(tf.distribute.ReduceOp.MEAN, x)


def replica_rank():
    """Index of this replica among those that share a global batch, from 0."""
    context = _replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def concat_over_replicas(x):
    """The tensors of all replicas, in the order of their ranks, joined along axis 0; no gradient flows."""
    context = _replica_context()
    return tf.stop_gradient(x if context is None else context.all_gather(x, axis=0))


def scale_loss_for_replicas(loss):
    """Keras's convention: the losses of replicas, and so their gradients, are summed."""
    return loss / replica_count()


def reduce_gradients(gradients):
    """Sum over replicas, in one go."""
    context = _replica_context()
    return gradients if context is None else context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))


def all_replicas_true(verdict):
    """Whether a bool holds on all replicas."""
    context = _replica_context()
    if context is None:
        return verdict
    return tf.equal(context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(verdict, tf.float32)), replica_count())


def gradient_replicas(model):
    """Replicas of the strategy under which the model was made."""
    return model.distribute_strategy.num_replicas_in_sync


def local_batch_shards(model):
    """One for each replica, whichever worker it is on: Keras takes the batches of a data set for global ones."""
    return model.distribute_strategy.num_replicas_in_sync


def broadcast_initial_state(model):
    """Nothing to do: `tf.distribute` starts variables from the first worker's values."""


def set_up(devices=None, layout=None):
    """The strategy for what is there.

    `TF_CONFIG` with several workers: `MultiWorkerMirroredStrategy`; `TPU_NAME`: `TPUStrategy`; several GPUs, or several
    logical CPUs: `MirroredStrategy`.

    Args:
        devices: Use so many devices of this machine; all of them if left out, and always with several workers or TPUs.
        layout: None; models are not cut on TensorFlow.

    Returns:
        A `Distribution`.

    Raises:
        ValueError: For a layout, a cluster of other than workers, or if there are not as many devices.
    """
    if layout is not None:
        raise ValueError(f"`model_parallel` above 1 needs the JAX backend. Received: {layout[0]} on TensorFlow.")
    cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
    if set(cluster) - {"worker"}:
        raise ValueError(f"The cluster of `TF_CONFIG` must have workers only. Received: {', '.join(cluster)}.")
    workers = len(cluster.get("worker", [None]))
    if workers > 1:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    elif os.environ.get("TPU_NAME"):
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(os.environ["TPU_NAME"])
        strategy = tf.distribute.TPUStrategy(resolver)
    else:
        names = [device.name for device in tf.config.list_logical_devices("GPU")]
        names = names or [device.name for device in tf.config.list_logical_devices("CPU")]
        if devices is not None and devices > len(names):
            raise ValueError(f"`devices` must be at most {len(names)}, the devices there are. Received: {devices}.")
        if len(names[:devices]) == 1:
            return Distribution()
        strategy = tf.distribute.MirroredStrategy(names[:devices])
    replicas = strategy.num_replicas_in_sync
    if devices not in (None, replicas):
        raise ValueError(f"`devices` must be left out or {replicas}, the devices of the cluster. Received: {devices}.")

    def feed(batches):
        # Every worker's data set as it is, cut into what its replicas take one after the other.
        local = replicas // workers
        size = tf.nest.flatten(batches.element_spec)[0].shape[0]
        if not size or size % local:
            raise ValueError(f"Batches must have a known size that {local} replicas divide. Received: {size}.")
        return strategy.distribute_datasets_from_function(
            lambda context: batches.rebatch(size // local, drop_remainder=True)
        )

    return Distribution(
        replicas=replicas,
        workers=workers,
        worker=strategy.cluster_resolver.task_id if workers > 1 else 0,
        name=f"{type(strategy).__name__} over {replicas} replicas",
        scope=strategy.scope,
        **({"feed": feed} if workers > 1 else {}),
    )


def load_saved_model(path):
    """Load a SavedModel that maps one batch of float32 images to one tensor.

    Args:
        path: directory that holds `saved_model.pb`.

    Returns:
        A function from (batch, height, width, 3) float32 to the tensor of rank 3 that the model returns, as NumPy; its
        attribute `image_size` is (height, width), or `None` where any is taken.

    Raises:
        ValueError: if the model has no signature from one float32 tensor of rank 4 to one tensor of rank 3.
    """
    model = tf.saved_model.load(str(path))
    for signature in model.signatures.values():
        inputs = signature.structured_input_signature[1]
        outputs = [name for name, spec in signature.structured_outputs.items() if spec.shape.rank == 3]
        if len(inputs) != 1 or len(outputs) != 1:
            continue
        ((name, spec),) = inputs.items()
        if spec.dtype == tf.float32 and spec.shape.rank == 4:

            def run(images, model=model, signature=signature, name=name, output=outputs[0]):
                return np.asarray(signature(**{name: tf.constant(images)})[output])

            run.image_size = tuple(spec.shape[1:3]) if None not in tuple(spec.shape[1:3]) else None
            return run
    raise ValueError(
        f"{path} must have a signature from one float32 tensor (batch, height, width, 3) to one tensor (batch, tokens, "
        f"width); it has the signatures {sorted(model.signatures)}."
    )
