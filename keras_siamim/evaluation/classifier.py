"""The classifier that fine-tuning trains: an encoder, its mean patch token, LayerNorm, one dense layer."""

import keras
from keras import ops

from keras_siamim.evaluation.features import check_pooling


@keras.saving.register_keras_serializable(package="keras_siamim")
class Classifier(keras.Model):
    """Images to logits: encoder, pooling, LayerNorm, dense.

    Args:
        encoder: Keras model from images (batch, height, width, 3) to tokens (batch, 1 + patches, width), class token
            first.
        num_classes: number of classes, 2 or more.
        pooling: `"mean"` of the patch tokens, as the paper fine-tunes, or the class `"token"`.
        head_stddev: of the normal initial values of the dense kernel, cut at two of them; small, so that training
            starts from almost equal logits (2e-5 as in arXiv 2111.06377's program).

    Raises:
        ValueError: if `num_classes` or `pooling` is out of range.
    """

    def __init__(self, encoder, num_classes, pooling="mean", head_stddev=2e-5, **kwargs):
        super().__init__(**kwargs)
        if num_classes < 2:
            raise ValueError(f"`num_classes` must be 2 or more; received {num_classes}.")
        self.encoder = encoder
        self.num_classes = num_classes
        self.pooling = check_pooling(pooling)
        self.head_stddev = head_stddev
        self.head_norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=self.dtype_policy, name="head_norm")
        self.head = keras.layers.Dense(
            num_classes,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=head_stddev),
            dtype=self.dtype_policy,
            name="head",
        )

    def build(self, input_shape):
        """Create the weights of the head for images (batch, height, width, 3)."""
        if not self.encoder.built:
            self.encoder.build(input_shape)
        tokens = self.encoder.compute_output_spec(keras.KerasTensor((2, *input_shape[1:])))
        pooled = (None, tokens.shape[-1])
        self.head_norm.build(pooled)
        self.head.build(pooled)

    def pool(self, tokens):
        """Pool tokens (batch, 1 + patches, width) and normalize: (batch, width), what the dense layer sees."""
        return self.head_norm(tokens[:, 0] if self.pooling == "token" else ops.mean(tokens[:, 1:], axis=1))

    def call(self, images, training=False):
        """Map images (batch, height, width, 3) to logits (batch, num_classes) float32."""
        return ops.cast(self.head(self.pool(self.encoder(images, training=training))), "float32")

    def compute_output_shape(self, input_shape):
        """(batch, num_classes)."""
        return (input_shape[0], self.num_classes)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "num_classes": self.num_classes,
            "pooling": self.pooling,
            "head_stddev": self.head_stddev,
        }

    @classmethod
    def from_config(cls, config):
        """Inverse of `get_config`."""
        return cls(**{**config, "encoder": keras.saving.deserialize_keras_object(config["encoder"])})
