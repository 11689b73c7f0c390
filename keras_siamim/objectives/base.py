"""What all objectives share."""

import keras
import numpy as np
from keras import ops

from keras_siamim import batch as keys
from keras_siamim._backend import (
    TrainStep,
    broadcast_initial_state,
    gradient_replicas,
    local_batch_shards,
    scale_loss_for_replicas,
)
from keras_siamim.layers import TokenBatchNorm, TransformerBlock
from keras_siamim.layers.nested import nested_layers
from keras_siamim.objectives.validation import (
    check_batch,
    check_replicas,
    last_batch_size,
    peek,
    require_several_images,
)
from keras_siamim.optimizers import AdamW, LossScaleOptimizer, batch_counter, unwrap_optimizer

POOLINGS = ("mean", "token")


def pool_tokens(tokens, pooling):
    """One vector per image from tokens (batch, 1 + patches, width): mean of the patches, or the class token.

    Raises:
        ValueError: If `pooling` is neither `"mean"` nor `"token"`.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"`pooling` must be one of {POOLINGS}. Received: {pooling!r}.")
    return ops.mean(tokens[:, 1:], axis=1) if pooling == "mean" else tokens[:, 0]


class Objective(TrainStep, keras.Model):
    """A Keras model that pre-trains `encoder` on batches of the kind that `keras_siamim.batch` describes.

    A subclass gives `encoder` (the network that is kept), `batch_keys` (the keys that it reads), `target_names`
    (outputs that serve as prediction targets), `call(batch, training)` and `loss_terms(outputs)`.

    A training step whose loss or gradients are not finite is skipped on all replicas, as if its batch had never come
    (with `keras_siamim.AdamW`, or under a loss scale): weights, moments, running statistics, counters and the means in
    the logs stay as they were. The logs say how often: `skipped` in all, and `skipped_in_a_row` until now.

    Geometry must stay float32 under a mixed policy, so inputs are not cast here but by the layers.

    Args:
        loss_names: Terms that are shown beside the loss.
        **kwargs: As for every Keras model.
    """

    batch_keys = ()
    train_patch_embedding = True
    target_names = ("target",)

    def __init__(self, loss_names=(), **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.trackers = {name: keras.metrics.Mean(name=name) for name in loss_names}
        count = {"shape": (), "dtype": "int32", "initializer": "zeros", "trainable": False}
        self.skipped = self.add_weight(name="skipped", **count)
        self.skipped_in_a_row = self.add_weight(name="skipped_in_a_row", **count)

    def loss_terms(self, outputs):
        """Dictionary of float32 scalars from what `call` gave: `loss` and the terms beside it."""
        raise AttributeError(f"{type(self).__name__} has no loss.")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the loss for Keras's training step, penalties of regularizers included; labels play no part.

        Raises:
            ValueError: If there are sample weights.
        """
        if sample_weight is not None:
            raise ValueError("`sample_weight` must be None: objectives weight no images. Received weights of a batch.")
        terms = self.loss_terms(y_pred)
        for name, tracker in self.trackers.items():
            tracker.update_state(terms[name])
        loss = self._penalized(terms["loss"])
        # A loss that is not finite shall have no finite gradient either, by which a step is judged.
        return scale_loss_for_replicas(loss * ops.stop_gradient(ops.where(ops.isfinite(loss), 1.0, float("nan"))))

    def _penalized(self, loss):
        return loss + sum(ops.cast(penalty, "float32") for penalty in self.losses)

    @property
    def gradient_checkpointing(self):
        """Whether all blocks recompute activations, see `TransformerBlock.gradient_checkpointing`.

        Set it before `fit`; like `jit_compile` it is no part of the configuration. Costs and gains are measured in
        `benchmarks/README.md`.
        """
        return all(block.gradient_checkpointing for block in self._blocks())

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value):
        for block in self._blocks():
            block.gradient_checkpointing = value
        self.train_function = None  # to be compiled anew

    def _blocks(self):
        return [layer for layer in nested_layers(self) if isinstance(layer, TransformerBlock)]

    @property
    def frozen_variables(self):
        """Variables that training must not change: the patch embedding's where it is not trained."""
        return [] if self.train_patch_embedding else self.encoder.patch_embedding.variables

    def restart_schedule(self):
        """Begin a new run from a trained model; there is no schedule here but the optimizer's."""

    def begin_step(self):
        """What a training step does first."""

    @property
    def rollback_variables(self):
        """Variables that a step moves on its way and that a skipped one puts back: running averages, seeds, means."""
        counts = (id(self.skipped), id(self.skipped_in_a_row))
        return [v for v in self.non_trainable_variables + self.metrics_variables if id(v) not in counts]

    @property
    def step_counter(self):
        """The optimizer's count of batches, which stands still over a step that was skipped."""
        return batch_counter(self.optimizer)

    def end_step(self, before, taken):
        """What a training step does last.

        Args:
            before: Values of `rollback_variables` before the step.
            taken: bool tensor, False if the step was skipped.
        """
        for variable, value in zip(self.rollback_variables, before, strict=True):
            variable.assign(ops.where(taken, ops.convert_to_tensor(variable), value))
        skipped = ops.cast(ops.logical_not(taken), "int32")
        self.skipped.assign(self.skipped + skipped)
        self.skipped_in_a_row.assign((self.skipped_in_a_row + skipped) * skipped)

    @property
    def seed_states(self):
        """States of the random number generators inside the model, uint32 (2,) each."""
        return [v for v in self.non_trainable_variables if v.name == "seed_generator_state"]

    def get_metrics_result(self):
        """Return the running means, NaN where every step so far was skipped: no step, no loss."""
        results = super().get_metrics_result()
        for metric in self.metrics:
            if isinstance(metric, keras.metrics.Mean) and metric.name in results:
                empty = ops.equal(ops.convert_to_tensor(metric.count), 0)
                results[metric.name] = ops.where(empty, float("nan"), results[metric.name])
        return results

    def step_logs(self):
        """What `fit` logs."""
        counts = {name: ops.copy(getattr(self, name)) for name in ("skipped", "skipped_in_a_row")}
        return {**self.get_metrics_result(), **counts}

    def get_compile_config(self):
        """As for every Keras model, but each backend decides anew how to compile: JAX's choice is slow on PyTorch."""
        config = super().get_compile_config()
        return config and {**config, "jit_compile": "auto"}

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch=0,
        steps_per_epoch=None,
        validation_steps=None,
        validation_batch_size=None,
        validation_freq=1,
    ):
        """Train as `keras.Model.fit`; the values of the first batch are checked before the first step.

        Raises:
            ValueError: If the model is not compiled; if a weight that training must not change is trainable; if the
                first batch lacks a key, or holds what no training should see (see `check_batch`); if an epoch is known
                to end with a batch of one image and the model has BatchNorm; for class or sample weights, which no
                objective uses.
        """
        if not self.compiled:
            raise ValueError("The model must be compiled before `fit`: call `compile` with an optimizer first.")
        for name, value in (("class_weight", class_weight), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(
                    f"`{name}` must be None: objectives without labels weight no images. Received: {value!r:.40}."
                )
        if thawed := [variable.path for variable in self.frozen_variables if variable.trainable]:
            raise ValueError(
                "`trainable` must stay False for the target branch, and for a patch embedding that is not trained. "
                f"Received: True for {len(thawed)} of their variables, first {thawed[0]}. Set it to False and compile."
            )
        self._check_replicas(x, batch_size)
        broadcast_initial_state(self)
        x = self._checked(x, batch_size, training=True)
        self._refuse_last_batch_of_one(x, batch_size, validation_split, steps_per_epoch)
        return super().fit(
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            callbacks=callbacks,
            validation_split=validation_split,
            validation_data=validation_data,
            shuffle=shuffle,
            initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch,
            validation_steps=validation_steps,
            validation_batch_size=validation_batch_size,
            validation_freq=validation_freq,
        )

    def evaluate(self, x=None, *args, **kwargs):
        """As `keras.Model.evaluate`, the first batch checked."""
        return super().evaluate(self._checked(x), *args, **kwargs)

    def _check_replicas(self, x, batch_size):
        parts, replicas = local_batch_shards(self), gradient_replicas(self)
        if max(parts, replicas) > 1:
            check_replicas(x, batch_size, parts)
        ours = isinstance(self.optimizer, (AdamW, LossScaleOptimizer)) and isinstance(
            unwrap_optimizer(self.optimizer), AdamW
        )
        if replicas > 1 and not ours:
            raise ValueError(
                "Over several replicas compile with `keras_siamim.AdamW`, which reduces gradients before it clips "
                "them, for float16 in a `keras_siamim.optimizers.adamw.LossScaleOptimizer`. Received: "
                f"{type(self.optimizer).__name__}."
            )

    def _checked(self, x, batch_size=None, training=False):
        first, x = peek(x)
        # Training that goes on skips a bad batch wherever it comes; an interruption before it must change nothing.
        goes_on = training and int(ops.convert_to_numpy(self.optimizer.iterations))
        if first is not None and not goes_on:
            self.check_values(first)
            if training and self._has_batch_norm():
                require_several_images(min(len(first[keys.VIEW_1]), batch_size or len(first[keys.VIEW_1])))
        return x

    def check_values(self, batch):
        """Check the values of a batch of NumPy arrays, see `check_batch`."""
        check_batch(batch, self.batch_keys, self.encoder)

    def _has_batch_norm(self):
        return any(isinstance(layer, TokenBatchNorm) for layer in nested_layers(self))

    def _refuse_last_batch_of_one(self, x, batch_size, validation_split, steps_per_epoch):
        # TensorFlow would train on it, JAX and PyTorch stop in the middle of an epoch: the same error, early, on all.
        if self._has_batch_norm():
            size = last_batch_size(x, batch_size, validation_split, steps_per_epoch)
            if size is not None:
                require_several_images(size, "a last batch of 1 image")

    def expected_initial_loss(self, batch):
        """Loss of a model that has learned nothing, to hold the first steps against.

        The model as it is now predicts the batch as in training, and every prediction is compared with the target of
        another image. Nothing of the model changes.

        Args:
            batch: One training batch.

        Returns:
            A float.
        """
        # Running averages and seeds move in every call for training.
        before = [np.array(ops.convert_to_numpy(variable)) for variable in self.rollback_variables]
        try:
            outputs = self(batch, training=True)
        finally:
            for variable, value in zip(self.rollback_variables, before, strict=True):
                variable.assign(value)
        outputs |= {name: ops.roll(outputs[name], 1, axis=0) for name in self.target_names}
        return float(ops.convert_to_numpy(self._penalized(self.loss_terms(outputs)["loss"])))

    def embed(self, images, batch_size=256, pooling="mean"):
        """Features of whole images from the encoder as it stands.

        Args:
            images: (images, height, width, channels) float32, normalized.
            batch_size: Images per step.
            pooling: `"mean"` of the patch tokens or the class `"token"`.

        Returns:
            NumPy array (images, width) float32.

        Raises:
            ValueError: For images of whole numbers, such as pixels of 0 to 255, or no images.
        """
        dtype = keras.backend.standardize_dtype(images.dtype)
        if "float" not in dtype or not len(images):
            raise ValueError(
                "`images` must be one or more images of normalized floats: divide by 255, subtract the mean and divide "
                f"by the standard deviation of `keras_siamim.batch`. Received: {len(images)} of dtype {dtype}."
            )
        features = [
            ops.convert_to_numpy(pool_tokens(ops.cast(tokens, "float32"), pooling))
            for start in range(0, len(images), batch_size)
            for tokens in [self.encoder.predict_on_batch(images[start : start + batch_size])]
        ]
        return np.concatenate(features)
