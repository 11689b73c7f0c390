"""What all objectives share."""

import keras
import numpy as np
from keras import ops

from keras_siamim import batch as keys
from keras_siamim.layers import TokenBatchNorm
from keras_siamim.objectives.validation import check_batch, peek

POOLINGS = ("mean", "token")


def pool_tokens(tokens, pooling):
    """One vector per image from tokens (batch, 1 + patches, width): mean of the patches, or the class token.

    Raises:
        ValueError: If `pooling` is neither `"mean"` nor `"token"`.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"`pooling` must be one of {POOLINGS}. Received: {pooling!r}.")
    return ops.mean(tokens[:, 1:], axis=1) if pooling == "mean" else tokens[:, 0]


class Objective(keras.Model):
    """A Keras model that pre-trains `encoder` on batches of the kind that `keras_siamim.batch` describes.

    A subclass gives `encoder` (the network that is kept), `batch_keys` (the keys that it reads), `answers` (the outputs
    that others are to predict), `call(batch, training)` and `loss_terms(outputs)`.

    Geometry must stay float32 under a mixed policy, so inputs are not cast here but by the layers.

    Args:
        loss_names: Terms that are shown beside the loss.
        **kwargs: As for every Keras model.
    """

    batch_keys = ()
    answers = ("target",)

    def __init__(self, loss_names=(), **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.trackers = {name: keras.metrics.Mean(name=name) for name in loss_names}

    def loss_terms(self, outputs):
        """Dictionary of float32 scalars from what `call` gave: `loss` and the terms beside it."""
        raise AttributeError(f"{type(self).__name__} has no loss.")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss, for Keras's training step; labels and sample weights play no part."""
        terms = self.loss_terms(y_pred)
        for name, tracker in self.trackers.items():
            tracker.update_state(terms[name])
        return terms["loss"]

    def get_compile_config(self):
        """As for every Keras model, but each backend decides anew how to compile: JAX's choice is slow on PyTorch."""
        config = super().get_compile_config()
        return config and {**config, "jit_compile": "auto"}

    def fit(self, x=None, *args, **kwargs):
        """As `keras.Model.fit`; the values of the first batch are checked before the first step.

        Raises:
            ValueError: If the first batch lacks a key, or holds what no training should see (see `check_batch`).
        """
        return super().fit(self._checked(x, kwargs.get("batch_size"), training=True), *args, **kwargs)

    def evaluate(self, x=None, *args, **kwargs):
        """As `keras.Model.evaluate`, the first batch checked."""
        return super().evaluate(self._checked(x), *args, **kwargs)

    def _checked(self, x, batch_size=None, training=False):
        first, x = peek(x)
        # Training that goes on skips a bad batch wherever it comes; an interruption before it must change nothing.
        goes_on = training and getattr(self, "optimizer", None) and int(ops.convert_to_numpy(self.optimizer.iterations))
        if first is not None and not goes_on:
            check_batch(first, self.batch_keys, self.encoder, getattr(self, "target_image_size", None))
            alone = min(len(first[keys.VIEW_1]), batch_size or len(first[keys.VIEW_1])) == 1
            if training and alone and any(isinstance(layer, TokenBatchNorm) for layer in self._flatten_layers()):
                raise ValueError(
                    "BatchNorm needs a batch of 2 or more images while training. Received: batch size 1. Take larger "
                    'batches, or the norm "layer" where the model offers it.'
                )
        return x

    def expected_initial_loss(self, batch):
        """Loss of a model that has learned nothing, to hold the first steps against.

        A copy of this model as it is now predicts the batch as in training, and every prediction is held against the
        target of another image.

        Args:
            batch: One training batch.

        Returns:
            A float.
        """
        copy = type(self).from_config(self.get_config())
        copy.set_weights(self.get_weights())
        outputs = copy(batch, training=True)
        outputs |= {name: ops.roll(outputs[name], 1, axis=0) for name in self.answers}
        return float(ops.convert_to_numpy(self.loss_terms(outputs)["loss"]))

    def embed(self, images, batch_size=256, pooling="mean"):
        """Features of whole images from the encoder as it stands.

        Args:
            images: (images, height, width, channels) float32, normalised.
            batch_size: Images per step.
            pooling: `"mean"` of the patch tokens or the class `"token"`.

        Returns:
            NumPy array (images, width) float32.
        """
        features = [
            ops.convert_to_numpy(pool_tokens(ops.cast(tokens, "float32"), pooling))
            for start in range(0, len(images), batch_size)
            for tokens in [self.encoder.predict_on_batch(images[start : start + batch_size])]
        ]
        return np.concatenate(features)
