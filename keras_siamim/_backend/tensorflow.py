"""TensorFlow: variables change in place; replicas are those of `tf.distribute`."""

import numpy as np
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
