"""TensorFlow backend: variables change in place; replicas are those of `tf.distribute`.

Inside a replica, an assignment changes that replica's copy of a variable, except the optimizer's counter. Copies of
weights stay equal because all replicas apply the same reduced gradients. Copies of metrics are summed when read.
"""

import json
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_siamim._backend.replicas import Distribution, shift_seeds
from keras_siamim.types import PathLike, Tensor


class TrainStep:
    """Mixin that calls `prepare_batch`, `begin_step`, Keras's step and `end_step`, see `objectives.base.Objective`."""

    def train_step(self, data):
        data = self.prepare_batch(data)
        # Wait for the batch: at the end of the data there is none, and the step must not begin.
        with tf.control_dependencies([value for value in tf.nest.flatten(data) if tf.is_tensor(value)]):
            count = tf.identity(self.step_counter)
            before = [tf.identity(variable) for variable in self.rollback_variables]
            self.begin_step()
            # During the step every replica draws from its own random stream; between steps all states are equal.
            if replica_count() > 1:
                shift_seeds(self.seed_states, replica_rank())
        super().train_step(data)
        if replica_count() > 1:
            shift_seeds(self.seed_states, -replica_rank())
        self.end_step(before, taken=tf.not_equal(tf.identity(self.step_counter), count))
        return _means_over_workers(self.step_logs())

    def test_step(self, data):
        return _means_over_workers(super().test_step(data))

    def make_train_function(self, force=False):
        # An optimizer that creates its variables inside the step makes TensorFlow trace the step twice.
        if not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        super().make_train_function(force)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """No-op: constructors build objectives, and Keras's symbolic build fails on batches of several workers."""


def _means_over_workers(logs):
    # Keras averages the logs of several workers along axis 0, which scalars lack.
    if not isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy):
        return logs
    return {name: tf.cast(value, tf.float32)[None] for name, value in logs.items()}


def replica_count() -> int:
    """Return the number of replicas that share a global batch."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def _replica_context():
    """Return `tf.distribute`'s replica context, or None if there is one replica."""
    return tf.distribute.get_replica_context() if replica_count() > 1 else None


def mean_over_replicas(x: Tensor) -> Tensor:
    """Return the mean of `x` over replicas; differentiable."""
    context = _replica_context()
    return x if context is None else context.all_reduce(tf.distribute.ReduceOp.MEAN, x)


def replica_rank() -> int | Tensor:
    """Return the index of this replica among those that share a global batch, from 0."""
    context = _replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def concat_over_replicas(x: Tensor) -> Tensor:
    """Return the tensors of all replicas, concatenated along axis 0 in the order of ranks, without gradient."""
    context = _replica_context()
    return tf.stop_gradient(x if context is None else context.all_gather(x, axis=0))


def scale_loss_for_replicas(loss: Tensor) -> Tensor:
    """Return the loss divided by the number of replicas."""
    # Keras's convention on TensorFlow: losses of replicas, and so their gradients, are summed.
    return loss / replica_count()


def reduce_gradients(gradients: list[Tensor]) -> list[Tensor]:
    """Return the sums of gradients over replicas, from one all-reduce."""
    # The gradient of a lookup is sparse, with repeated rows, which an assignment would not add up.
    gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
    context = _replica_context()
    return gradients if context is None else context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)


def all_replicas_true(condition: Tensor) -> Tensor:
    """Return True if a bool scalar is True on every replica."""
    context = _replica_context()
    if context is None:
        return condition
    return tf.equal(context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(condition, tf.float32)), replica_count())


def gradient_replicas(model: keras.Model) -> int:
    """Return the number of replicas of the strategy under which the model was created."""
    return model.distribute_strategy.num_replicas_in_sync


def local_batch_shards(model: keras.Model) -> int:
    """Return the number of replicas on all workers."""
    # Keras treats the batches of a data set as global ones.
    return model.distribute_strategy.num_replicas_in_sync


def broadcast_initial_state(model: keras.Model) -> None:
    """No-op: `tf.distribute` initializes variables with the values of the first worker."""


def compile_inference(layer: keras.Layer, function: Callable) -> Callable:
    """Compile a function that calls a layer in inference mode. It changes no state, so that training goes on as before.

    Args:
        layer: Built layer. Each call reads the variables that it has at that time.
        function: Function from tensors, or dictionaries of tensors, to tensors or structures of them.

    Returns:
        The same function from NumPy arrays to NumPy arrays.
    """
    compiled = tf.function(function, autograph=False)

    def run(*arrays):
        tensors = tf.nest.map_structure(tf.convert_to_tensor, arrays)
        return tf.nest.map_structure(np.asarray, compiled(*tensors))

    return run


def has_accelerator() -> bool:
    """Return True if training runs on a GPU or TPU."""
    return bool(tf.config.list_physical_devices("GPU") or os.environ.get("TPU_NAME"))


def free_accelerator_memory() -> float | None:
    """Return None: TensorFlow does not tell the free memory of a GPU or TPU."""
    return None


def set_up(devices: int | None = None, layout: tuple | None = None) -> Distribution:
    """Select the `tf.distribute` strategy for the available devices.

    `TF_CONFIG` with several workers selects `MultiWorkerMirroredStrategy`, and `TPU_NAME` selects `TPUStrategy`.
    Several GPUs, or several logical CPUs, select `MirroredStrategy`.

    Args:
        devices: int. Number of devices of this machine to use. With several workers or a TPU it must be the number of
            all replicas. Defaults to all.
        layout: None; TensorFlow has no model parallelism here.

    Returns:
        A `Distribution`.

    Raises:
        ValueError: For a layout, for a cluster with other tasks than workers, or if there are fewer devices.
    """
    if layout is not None:
        raise ValueError(f"`model_parallel` must be 1 on TensorFlow: only JAX supports more. Received: {layout[0]}.")
    cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
    if set(cluster) - {"worker"}:
        raise ValueError(f"`TF_CONFIG` must describe a cluster of workers only. Received: {', '.join(cluster)}.")
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
            raise ValueError(f"`devices` must be at most {len(names)}, the number of devices. Received: {devices}.")
        if len(names[:devices]) == 1:
            return Distribution()
        strategy = tf.distribute.MirroredStrategy(names[:devices])
    replicas = strategy.num_replicas_in_sync
    if devices not in (None, replicas):
        raise ValueError(f"`devices` must be None or {replicas}, the devices of the cluster. Received: {devices}.")

    def feed(batches):
        # Each worker keeps its own data set; its replicas take consecutive slices of a batch.
        local = replicas // workers
        size = tf.nest.flatten(batches.element_spec)[0].shape[0]
        if not size or size % local:
            raise ValueError(f"`batches` must have a static size divisible by {local} replicas. Received: {size}.")
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


def load_saved_model(path: PathLike) -> Any:
    """Load a SavedModel that maps one batch of float32 images to one tensor of rank 3.

    Args:
        path: Path of the folder that holds `saved_model.pb`.

    Returns:
        A function from images (batch, height, width, 3) float32 to the model's NumPy array of rank 3. Its attribute
        `image_size` is (height, width), or None if the model accepts any size; `num_prefix_tokens` is 0 if another
        signature has patch tokens and no class token, and otherwise 1.

    Raises:
        ValueError: If the model has no signature from one float32 tensor of rank 4 to one tensor of rank 3.
    """
    model = tf.saved_model.load(str(path))
    every_output = {name for signature in model.signatures.values() for name in signature.structured_outputs}
    for signature in model.signatures.values():
        inputs = signature.structured_input_signature[1]
        outputs = [name for name, spec in signature.structured_outputs.items() if spec.shape.rank == 3]
        if len(inputs) != 1 or len(outputs) != 1:
            continue
        ((name, spec),) = inputs.items()
        if spec.dtype == tf.float32 and spec.shape.rank == 4:

            def run(images, model=model, signature=signature, name=name, output=outputs[0]):
                return np.asarray(signature(**{name: tf.constant(images)})[output])

            size = tuple(spec.shape[1:3])
            run.image_size = size if None not in size else None  # type: ignore[attr-defined]
            has_no_class_token = "patch_tokens" in every_output and "class_token" not in every_output
            run.num_prefix_tokens = 0 if has_no_class_token else 1  # type: ignore[attr-defined]
            return run
    raise ValueError(
        f"`path` must have a signature from one float32 tensor (batch, height, width, 3) to one tensor (batch, tokens, "
        f"width). Received: {path} with the signatures {sorted(model.signatures)}."
    )
