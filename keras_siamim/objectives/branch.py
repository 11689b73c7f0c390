"""The two branches of Siamese Image Modeling."""

import keras

from keras_siamim.layers import Dense, Token, TransformerBlock


@keras.saving.register_keras_serializable(package="keras_siamim")
class SiameseBranch(keras.layers.Layer):
    """What online and target branch have in common: encoder, dense to the decoder's width, projector, mask token.

    Args:
        encoder: A `ViTEncoder`.
        width: Width of the projector.
        num_heads: Its attention heads.
        depth: Its number of blocks.
        norm: Its norms, `"batch"` or `"layer"`.
        mlp_ratio: Hidden width of its MLPs over `width`.
        **kwargs: As for every Keras layer.
    """

    def __init__(self, encoder, width, num_heads, depth=2, norm="batch", mlp_ratio=4, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.width = width
        self.num_heads = num_heads
        self.depth = depth
        self.norm = norm
        self.mlp_ratio = mlp_ratio
        self.embedding = Dense(width, dtype=self.dtype_policy, name="embedding")
        self.projector = [
            TransformerBlock(num_heads, mlp_ratio, norm, dtype=self.dtype_policy, name=f"projector_{index}")
            for index in range(depth)
        ]
        self.mask_token = Token(width, dtype=self.dtype_policy, name="mask_token")

    def build(self, input_shape=None):
        """Create the weights; the encoder is built already."""
        self.embedding.build((None, None, self.encoder.width))
        for block in self.projector:
            block.build((None, None, self.width))
        self.mask_token.build()

    def project(self, tokens, training=False):
        """Encoder tokens (batch, tokens, encoder width) to projector tokens (batch, tokens, width)."""
        x = self.embedding(tokens)
        for block in self.projector:
            x = block(x, training=training)
        return x

    def call(self, images, visible_ids=None, training=False):
        """Images to projector tokens (batch, 1 + patches, width), class token first."""
        return self.project(self.encoder(images, visible_ids, training=training), training=training)

    def get_config(self):
        """Constructor arguments."""
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "width": self.width,
            "num_heads": self.num_heads,
            "depth": self.depth,
            "norm": self.norm,
            "mlp_ratio": self.mlp_ratio,
        }

    @classmethod
    def from_config(cls, config):
        """Inverse of `get_config`."""
        return cls(**{**config, "encoder": keras.saving.deserialize_keras_object(config["encoder"])})
