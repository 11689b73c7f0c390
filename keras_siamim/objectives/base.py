"""Base class of all objectives."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

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
from keras_siamim.layers import ConvNeXtBlock, TokenBatchNorm, TransformerBlock
from keras_siamim.layers.nested import nested_layers
from keras_siamim.objectives.skipped_steps import SkipNonFiniteSteps
from keras_siamim.objectives.validation import (
    check_batch,
    check_replicas,
    last_batch_size,
    peek,
    require_several_images,
)
from keras_siamim.ops.pooling import num_prefix_tokens, pool_tokens
from keras_siamim.optimizers import AdamW, LossScaleOptimizer, unwrap_optimizer
from keras_siamim.types import Batch, Tensor


class Objective(SkipNonFiniteSteps, TrainStep, keras.Model):
    """Keras model that pre-trains `encoder` on batches of `keras_siamim.batch`.

    A subclass defines `encoder` (the part that users keep), `batch_keys` (the keys that it reads), `target_names`
    (outputs that serve as prediction targets), `call(batch, training)` and `loss_terms(outputs)`.

    Steps with non-finite numbers change nothing, see `SkipNonFiniteSteps`. Geometry must stay float32 under a mixed
    policy, so that layers cast their inputs and the model does not.

    Args:
        loss_names: Sequence of str. Terms that `fit` logs beside the loss. Defaults to none.
        **kwargs: Arguments of `keras.Model`.
    """

    batch_keys: tuple[str, ...] = ()
    train_patch_embedding = True
    target_names: tuple[str, ...] = ("target",)

    def __init__(self, loss_names: Sequence[str] = (), **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.trackers = {name: keras.metrics.Mean(name=name) for name in loss_names}
        self.add_skip_counters()
        self._make_views: Callable[[Batch], Batch] | None = None

    def loss_terms(self, outputs: Batch) -> dict[str, Tensor]:
        """Return float32 scalars from the outputs of `call`: `loss` and the terms `loss_names`."""
        raise NotImplementedError(f"{type(self).__name__} must define `loss_terms`.")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        # Penalties of regularizers are included; labels are ignored.
        if sample_weight is not None:
            raise ValueError("`sample_weight` must be None: objectives do not weight images. Received: sample weights.")
        terms = self.loss_terms(y_pred)
        for name, tracker in self.trackers.items():
            tracker.update_state(terms[name])
        loss = self._penalized(terms["loss"])
        # The optimizer skips steps by their gradients, so a non-finite loss must not have finite gradients.
        return scale_loss_for_replicas(loss * ops.stop_gradient(ops.where(ops.isfinite(loss), 1.0, float("nan"))))

    def _penalized(self, loss):
        return loss + sum(ops.cast(penalty, "float32") for penalty in self.losses)

    def set_views(self, make_views: Callable[[Batch], Batch] | None) -> None:
        """Let every training step make its views from a raw batch, on the training device.

        Call it before `fit`. Like `jit_compile` the function is not part of the configuration.

        Args:
            make_views: Function from a raw batch to a training batch, such as the layer
                `keras_siamim.data.views.on_device_views.RenderViews`; None for training batches as they are.
        """
        # Not the layer itself, which Keras would add to the built model.
        self._make_views = make_views and functools.partial(make_views)
        self.train_function = None  # Keras compiles it again

    def prepare_batch(self, data):
        if self._make_views is None:
            return data
        return self._make_views(data[0] if isinstance(data, (tuple, list)) else data)

    @property
    def gradient_checkpointing(self) -> bool:
        """True if all blocks recompute activations, see `TransformerBlock.gradient_checkpointing`.

        Set it before `fit`. Like `jit_compile` it is not part of the configuration. `benchmarks/README.md` has its cost
        and gain.
        """
        return all(block.gradient_checkpointing for block in self._blocks())

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value):
        for block in self._blocks():
            block.gradient_checkpointing = value
        self.train_function = None  # Keras compiles it again

    def _blocks(self):
        return [layer for layer in nested_layers(self) if isinstance(layer, (TransformerBlock, ConvNeXtBlock))]

    @property
    def frozen_variables(self) -> list[keras.Variable]:
        """Variables that training must not change, such as those of a patch embedding that is not trained."""
        return [] if self.train_patch_embedding else self.encoder.patch_embedding.variables

    def restart_schedule(self) -> None:
        """Reset the schedules of the model itself, for a new run from a trained model."""

    def get_compile_config(self):
        # Each backend decides how to compile: JAX's choice would be slow on PyTorch.
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
        """Train as `keras.Model.fit` does, after a check of the model and of the first batch.

        Raises:
            ValueError: If the model is not compiled, if a variable of `frozen_variables` is trainable, if `check_batch`
                rejects the first batch, if an epoch ends with a batch of one image and the model has BatchNorm, or for
                class or sample weights, which objectives do not use.
        """
        if not self.compiled:
            raise ValueError("The model must be compiled before `fit`: call `compile` with an optimizer first.")
        for name, value in (("class_weight", class_weight), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(f"`{name}` must be None: objectives do not weight images. Received: {value!r:.40}.")
        if thawed := [variable.path for variable in self.frozen_variables if variable.trainable]:
            raise ValueError(
                "`trainable` must stay False for the target branch, and for a patch embedding that is not trained. "
                f"Received: True for {len(thawed)} of their variables, first {thawed[0]}. Set it to False and compile."
            )
        self._check_replicas(x, batch_size)
        broadcast_initial_state(self)
        x = self._checked(x, batch_size, training=True)
        self._reject_last_batch_of_one(x, batch_size, validation_split, steps_per_epoch)
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
                "`optimizer` must be `keras_siamim.AdamW` over several replicas, since it reduces gradients before it "
                "clips them, for float16 inside `keras_siamim.optimizers.LossScaleOptimizer`. Received: "
                f"{type(self.optimizer).__name__}."
            )

    def _checked(self, x, batch_size=None, training=False):
        first, x = peek(x)
        # A run that resumes must be the run without interruption, which skips a bad batch.
        resumes = training and int(ops.convert_to_numpy(self.optimizer.iterations))
        if first is not None and not resumes:
            if training and self._make_views is not None:
                first = {key: ops.convert_to_numpy(value) for key, value in self.prepare_batch(first).items()}
            self.check_values(first)
            if training and self._has_batch_norm():
                require_several_images(min(len(first[keys.VIEW_1]), batch_size or len(first[keys.VIEW_1])))
        return x

    def check_values(self, batch: Batch) -> None:
        """Raise for a batch of NumPy arrays that `check_batch` rejects."""
        check_batch(batch, self.batch_keys, self.encoder)

    def _has_batch_norm(self):
        return any(isinstance(layer, TokenBatchNorm) for layer in nested_layers(self))

    def _reject_last_batch_of_one(self, x, batch_size, validation_split, steps_per_epoch):
        # TensorFlow would train on it; JAX and PyTorch would stop in the middle of an epoch.
        if self._has_batch_norm():
            size = last_batch_size(x, batch_size, validation_split, steps_per_epoch)
            if size is not None:
                require_several_images(size, "a last batch of 1 image")

    def expected_initial_loss(self, batch: Batch) -> float:
        """Return the loss of a model that has learned nothing, as a reference for the first steps.

        The model predicts the batch as in training, and each prediction is compared with the target of another image.
        The model does not change.

        Args:
            batch: One training batch.
        """
        batch = self.prepare_batch(batch)
        # A call in training mode updates running averages and seeds.
        before = [np.array(ops.convert_to_numpy(variable)) for variable in self.rollback_variables]
        try:
            outputs = self(batch, training=True)
        finally:
            for variable, value in zip(self.rollback_variables, before, strict=True):
                variable.assign(value)
        outputs |= {name: ops.roll(outputs[name], 1, axis=0) for name in self.target_names}
        return float(ops.convert_to_numpy(self._penalized(self.loss_terms(outputs)["loss"])))

    def embed(self, images: Tensor, batch_size: int = 256, pooling: str = "mean") -> np.ndarray:
        """Return the encoder's features of unmasked images.

        Args:
            images: (images, height, width, channels) float32, normalized.
            batch_size: int. Images per step. Defaults to 256.
            pooling: `"mean"` of the patch tokens, or the class `"token"`. Defaults to `"mean"`.

        Returns:
            (images, width) float32 array.

        Raises:
            ValueError: For images of an integer dtype, such as pixels in [0, 255], and for no images.
        """
        dtype = keras.backend.standardize_dtype(images.dtype)
        if "float" not in dtype or not len(images):
            raise ValueError(
                "`images` must be one or more images of normalized floats: divide by 255, subtract the mean and divide "
                f"by the standard deviation of `keras_siamim.batch`. Received: {len(images)} of dtype {dtype}."
            )
        features = [
            ops.convert_to_numpy(pool_tokens(ops.cast(tokens, "float32"), pooling, num_prefix_tokens(self.encoder)))
            for start in range(0, len(images), batch_size)
            for tokens in [self.encoder.predict_on_batch(images[start : start + batch_size])]
        ]
        return np.concatenate(features)
