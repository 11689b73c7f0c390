"""Branch of Siamese Image Modeling."""

from __future__ import annotations

import keras

from keras_siamim.layers import Dense, Token, TransformerBlock
from keras_siamim.types import Tensor


@keras.saving.register_keras_serializable(package="keras_siamim")
class SiameseBranch(keras.layers.Layer):
    """Branch of SiameseIM: encoder, linear map to the decoder's width, projector, and the mask token.

    Online and target branch have the same layers. A call maps images to projector tokens (batch, tokens, width),
    class token first if the encoder has one.

    Args:
        encoder: `ViTEncoder` or `ConvNeXtEncoder`.
        width: int. Width of the projector.
        num_heads: int. Attention heads of the projector.
        depth: int. Blocks of the projector. Defaults to 2.
        norm: `"batch"` or `"layer"`. Norms of the projector. Defaults to `"batch"`.
        mlp_ratio: float. Hidden width of its MLPs over `width`. Defaults to 4.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        encoder: keras.Model,
        width: int,
        num_heads: int,
        depth: int = 2,
        norm: str = "batch",
        mlp_ratio: float = 4,
        **kwargs,
    ):
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
        self.embedding.build((None, None, self.encoder.width))
        for block in self.projector:
            block.build((None, None, self.width))
        self.mask_token.build()

    def project(self, tokens: Tensor, training: bool = False) -> Tensor:
        """Return projector tokens (batch, tokens, width) of encoder tokens (batch, tokens, encoder width)."""
        x = self.embedding(tokens)
        for block in self.projector:
            x = block(x, training=training)
        return x

    def call(self, images, visible_ids=None, training=False):
        return self.project(self.encoder(images, visible_ids, training=training), training=training)

    def get_config(self):
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
        return cls(**{**config, "encoder": keras.saving.deserialize_keras_object(config["encoder"])})
