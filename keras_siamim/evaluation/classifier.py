"""Image classifier for fine-tuning: an encoder, pooling, LayerNorm and one dense layer."""

import keras
from keras import ops

from keras_siamim.evaluation.features import in_data_format_of
from keras_siamim.ops.pooling import check_pooling, num_prefix_tokens, pool_tokens
from keras_siamim.types import Tensor


@keras.saving.register_keras_serializable(package="keras_siamim")
class Classifier(keras.Model):
    """Model from images to logits: encoder, pooling, LayerNorm, dense layer.

    Maps images (batch, height, width, 3) float32 to logits (batch, num_classes) float32.

    Args:
        encoder: `keras.Model` from images to tokens (batch, 1 + patches, width), class token first. It may expect
            channels first.
        num_classes: Integer, 2 or more. Number of classes.
        pooling: `"mean"` of the patch tokens, as in the paper's fine-tuning, or the class `"token"`. Defaults to
            `"mean"`.
        head_stddev: Float. Standard deviation of the truncated normal initializer of the dense kernel. Defaults to
            2e-5, as in the program of arXiv 2111.06377.

    Raises:
        ValueError: If `num_classes` or `pooling` is out of range.

    Example:
        >>> encoder = ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2)
        >>> tuple(Classifier(encoder, num_classes=3)(np.zeros((2, 8, 8, 3), "float32")).shape)
        (2, 3)
    """

    def __init__(
        self, encoder: keras.Model, num_classes: int, pooling: str = "mean", head_stddev: float = 2e-5, **kwargs
    ):
        super().__init__(**kwargs)
        if num_classes < 2:
            raise ValueError(f"`num_classes` must be 2 or more. Received: {num_classes}.")
        self.encoder = encoder
        self.num_classes = num_classes
        self.pooling = check_pooling(pooling)
        self.head_stddev = head_stddev
        self.head_norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=self.dtype_policy, name="head_norm")
        self.head = keras.layers.Dense(
            num_classes,
            # Small, so that training starts from almost equal logits.
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=head_stddev),
            dtype=self.dtype_policy,
            name="head",
        )

    def build(self, input_shape):
        images = in_data_format_of(self.encoder, keras.KerasTensor((2, *input_shape[1:])))
        if not self.encoder.built:
            self.encoder.build((None, *images.shape[1:]))
        tokens = self.encoder.compute_output_spec(images)
        pooled = (None, tokens.shape[-1])
        self.head_norm.build(pooled)
        self.head.build(pooled)

    def pool(self, tokens: Tensor) -> Tensor:
        """Return the input of the dense layer: pooled and normalized tokens.

        Args:
            tokens: (batch, 1 + patches, width) floats, class token first.

        Returns:
            (batch, width) floats.
        """
        return self.head_norm(pool_tokens(tokens, self.pooling, num_prefix_tokens(self.encoder)))

    def call(self, images, training=False):
        tokens = self.encoder(in_data_format_of(self.encoder, images), training=training)
        return ops.cast(self.head(self.pool(tokens)), "float32")

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_classes)

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "num_classes": self.num_classes,
            "pooling": self.pooling,
            "head_stddev": self.head_stddev,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "encoder": keras.saving.deserialize_keras_object(config["encoder"])})
