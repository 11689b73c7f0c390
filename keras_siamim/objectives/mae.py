"""Masked autoencoders."""

from __future__ import annotations

import keras
from keras import ops

from keras_siamim import batch as keys
from keras_siamim.arguments import number_in, whole_number
from keras_siamim.layers import Dense, Token, TransformerBlock
from keras_siamim.losses import masked_pixel_loss, normalize_pixels
from keras_siamim.objectives.base import Objective
from keras_siamim.objectives.validation import require_count, require_float, require_keys
from keras_siamim.ops import masked_patches, patchify, restore_tokens, sincos_position_table
from keras_siamim.types import Tensor


@keras.saving.register_keras_serializable(package="keras_siamim")
class MAE(Objective):
    """Masked autoencoder (arXiv 2111.06377): predict the pixels of the masked patches from the visible ones.

    Args:
        encoder: `ViTEncoder` or `ConvNeXtEncoder`, trained in place. The paper's ViT has `final_norm=True`, its
            released weights `axis_order="columns_first"`; the decoder's positions have the same order.
        decoder_width: int. Width of the decoder, a multiple of 4 and of `decoder_heads`. Defaults to 512.
        decoder_heads: int. Attention heads of the decoder. Defaults to 16.
        decoder_depth: int. Blocks of the decoder. Defaults to 8.
        decoder_mlp_ratio: float. Hidden width of its MLPs over `decoder_width`. Defaults to 4.
        train_patch_embedding: bool. Whether to train the patch embedding. Defaults to True.
        normalize_pixels: bool. Whether the pixels of each patch are predicted at zero mean and unit variance. Defaults
            to True.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        batch: Dictionary with `view_1` and `visible_ids`, see `keras_siamim.batch`.
        training: bool. Whether the encoder applies stochastic depth.

    Returns:
        Dictionary of `prediction` and `pixels`, (batch, patches, pixels per patch), and `masked`, (batch, patches)
        bool. `pixels` is float32.

    Raises:
        ValueError: For sizes that do not fit, and for batches that lack keys, floats or masked patches.

    Example:
        >>> encoder = ViTEncoder(image_size=32, patch_size=8, width=24, depth=1, num_heads=3, final_norm=True)
        >>> model = MAE(encoder, decoder_width=32, decoder_heads=4, decoder_depth=1)
        >>> model.compile(AdamW(1e-3))
    """

    batch_keys = (keys.VIEW_1, keys.VISIBLE_IDS)
    target_names = ("pixels",)

    def __init__(
        self,
        encoder: keras.Model,
        decoder_width: int = 512,
        decoder_heads: int = 16,
        decoder_depth: int = 8,
        decoder_mlp_ratio: float = 4,
        train_patch_embedding: bool = True,
        normalize_pixels: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder_width = decoder_width = whole_number("decoder_width", decoder_width)
        self.decoder_heads = decoder_heads = whole_number("decoder_heads", decoder_heads)
        self.decoder_depth = decoder_depth = whole_number("decoder_depth", decoder_depth)
        self.decoder_mlp_ratio = number_in("decoder_mlp_ratio", decoder_mlp_ratio, "(0, inf)")
        sincos_position_table((1, 1), decoder_width)  # raises for a width that positions do not divide
        self.train_patch_embedding = train_patch_embedding
        self.normalize_pixels = normalize_pixels

        policy = self.dtype_policy
        self.embedding = Dense(decoder_width, dtype=policy, name="embedding")
        self.mask_token = Token(decoder_width, dtype=policy, name="mask_token")
        self.decoder = [
            TransformerBlock(decoder_heads, decoder_mlp_ratio, dtype=policy, name=f"decoder_{index}")
            for index in range(decoder_depth)
        ]
        self.decoder_norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=policy, name="decoder_norm")
        self.head = Dense(encoder.patch_size**2 * encoder.channels, dtype=policy, name="head")
        self.build()

    def build(self, input_shape=None):
        if self.built:
            return
        tokens = (None, None, self.decoder_width)
        self.embedding.build((None, None, self.encoder.width))
        self.mask_token.build()
        for block in self.decoder:
            block.build(tokens)
        self.decoder_norm.build(tokens)
        self.head.build(tokens)
        self.encoder.patch_embedding.set_trainable(self.train_patch_embedding)
        self.built = True

    def call(self, batch, training=False):
        self._check(batch)
        images, visible_ids = batch[keys.VIEW_1], batch[keys.VISIBLE_IDS]
        latent = self.encoder(images, visible_ids, training=training)
        prediction = self.decode(latent, visible_ids, images.shape, training)
        pixels = patchify(images, self.encoder.patch_size, self.encoder.data_format)
        pixels = normalize_pixels(pixels) if self.normalize_pixels else ops.cast(pixels, "float32")
        return {
            "prediction": prediction,
            "pixels": pixels,
            "masked": masked_patches(visible_ids, prediction.shape[1]),
        }

    def decode(self, latent: Tensor, visible_ids: Tensor, image_shape: tuple, training: bool = False) -> Tensor:
        """Predict the pixels of all patches.

        Args:
            latent: (batch, tokens, width). Tokens of the encoder: prefix tokens, then the visible patches.
            visible_ids: (batch, visible) int32.
            image_shape: Shape of the images.
            training: bool. Whether the model trains.

        Returns:
            (batch, patches, pixels per patch).
        """
        grid, prefix = self.encoder.grid_of(image_shape), self.encoder.num_prefix_tokens
        table = sincos_position_table(grid, self.decoder_width, self.encoder.axis_order)
        x = self.embedding(latent)
        mask_token = self.mask_token.repeat(ops.shape(x)[0])
        patches = restore_tokens(x[:, prefix:], visible_ids, mask_token, len(table))
        x = ops.concatenate([x[:, :prefix], patches + ops.convert_to_tensor(table, dtype=x.dtype)], axis=1)
        for block in self.decoder:
            x = block(x, training=training)
        return self.head(self.decoder_norm(x))[:, prefix:]

    def loss_terms(self, outputs):
        return {"loss": masked_pixel_loss(outputs["prediction"], outputs["pixels"], outputs["masked"])}

    def _check(self, batch):
        # Shapes and dtypes alone; `fit` checks values too.
        require_keys(batch, self.batch_keys)
        require_float(batch, keys.VIEW_1)
        rows, columns = self.encoder.grid_of(batch[keys.VIEW_1].shape)
        require_count(batch, keys.VISIBLE_IDS, rows * columns, left_out=1)

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder_width": self.decoder_width,
            "decoder_heads": self.decoder_heads,
            "decoder_depth": self.decoder_depth,
            "decoder_mlp_ratio": self.decoder_mlp_ratio,
            "train_patch_embedding": self.train_patch_embedding,
            "normalize_pixels": self.normalize_pixels,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "encoder": keras.saving.deserialize_keras_object(config["encoder"])})
