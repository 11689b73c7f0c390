"""MoCo v3."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
from keras import ops

from keras_siamim import batch as keys
from keras_siamim.arguments import whole_number
from keras_siamim.layers import MlpHead
from keras_siamim.losses import InfoNCE
from keras_siamim.objectives.momentum import MomentumObjective
from keras_siamim.objectives.validation import require_float, require_keys


@keras.saving.register_keras_serializable(package="keras_siamim")
class MoCoBranch(keras.layers.Layer):
    """Branch of MoCo v3: encoder and projector, from images to one vector each, (batch, widths[-1]).

    The projector reads the class token, or a LayerNorm of the mean token of an encoder without one.

    Args:
        encoder: `ViTEncoder` or `ConvNeXtEncoder`.
        widths: Sequence of int. Output channels of the projector's layers.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, encoder: keras.Model, widths: Sequence[int], **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.widths = list(widths)
        self.projector = MlpHead(self.widths, dtype=self.dtype_policy, name="projector")
        self.pooled_norm = None
        if not encoder.num_prefix_tokens:
            norm = {"epsilon": 1e-6, "dtype": self.dtype_policy, "name": "pooled_norm"}
            self.pooled_norm = keras.layers.LayerNormalization(**norm)

    def build(self, input_shape=None):
        self.projector.build((None, self.encoder.width))
        if self.pooled_norm is not None:
            self.pooled_norm.build((None, self.encoder.width))

    def call(self, images, training=False):
        tokens = self.encoder(images, training=training)
        pooled = tokens[:, 0] if self.pooled_norm is None else self.pooled_norm(ops.mean(tokens, axis=1))
        return self.projector(pooled, training=training)

    def get_config(self):
        encoder = keras.saving.serialize_keras_object(self.encoder)
        return {**super().get_config(), "encoder": encoder, "widths": self.widths}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "encoder": keras.saving.deserialize_keras_object(config["encoder"])})


@keras.saving.register_keras_serializable(package="keras_siamim")
class MoCoV3(MomentumObjective):
    """MoCo v3 (arXiv 2104.02057): identify the momentum branch's vector of another view of the same image.

    Args:
        encoder: `ViTEncoder` or `ConvNeXtEncoder`, trained in place. The part that users keep. The paper's ViT has
            `final_norm=True`.
        projector_width: int. Hidden channels of the projector (three dense layers) and the predictor (two). Defaults to
            4096.
        embedding_width: int. Channels of the vectors. Defaults to 256.
        temperature: float. Divisor of their cosine similarities. Defaults to 0.2.
        train_patch_embedding: bool. Whether to train the patch embedding, which the paper freezes at its initial
            values. Defaults to False.
        target_momentum: float in [0, 1], or a schedule such as `CosineMomentum(0.99, total_steps)`. Defaults to 0.99.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        batch: Dictionary with `view_1` and `view_2`, see `keras_siamim.batch`.
        training: bool. Whether BatchNorm uses the statistics of the batch.

    Returns:
        Dictionary of (batch, embedding_width): `query_1` and `query_2` of online branch and predictor, `key_1` and
        `key_2` of the target branch without gradient.

    Raises:
        ValueError: For a momentum or temperature out of range, and for batches that lack keys or floats.

    Example:
        >>> encoder = ViTEncoder(image_size=32, patch_size=8, width=24, depth=1, num_heads=3, final_norm=True)
        >>> model = MoCoV3(encoder, projector_width=64, embedding_width=32)
        >>> model.compile(AdamW(1e-3, weight_decay=0.1, beta_2=0.999))
    """

    batch_keys = (keys.VIEW_1, keys.VIEW_2)
    target_names = ("key_1", "key_2")

    def __init__(
        self,
        encoder: keras.Model,
        projector_width: int = 4096,
        embedding_width: int = 256,
        temperature: float = 0.2,
        train_patch_embedding: bool = False,
        target_momentum: float | Callable = 0.99,
        **kwargs,
    ):
        super().__init__(target_momentum=target_momentum, **kwargs)
        self.projector_width = projector_width = whole_number("projector_width", projector_width)
        self.embedding_width = embedding_width = whole_number("embedding_width", embedding_width)
        self.temperature = temperature
        self.train_patch_embedding = train_patch_embedding
        self.contrast = InfoNCE(temperature)

        policy = self.dtype_policy
        widths = (projector_width, projector_width, embedding_width)
        self.online = MoCoBranch(encoder, widths, dtype=policy, name="online")
        self.target = MoCoBranch(self.copy_encoder(encoder), widths, dtype=policy, name="target")
        self.predictor = MlpHead((projector_width, embedding_width), dtype=policy, name="predictor")
        self.build()

    @property
    def encoder(self) -> keras.Model:
        """The online encoder, which users keep."""
        return self.online.encoder

    def build(self, input_shape=None):
        if self.built:
            return
        self.online.build()
        self.target.build()
        self.predictor.build((None, self.embedding_width))
        self.pair_branches(self.online, self.target)
        self.encoder.patch_embedding.set_trainable(self.train_patch_embedding)
        self.built = True

    def call(self, batch, training=False):
        require_keys(batch, self.batch_keys)
        outputs = {}
        for number, view in (("1", keys.VIEW_1), ("2", keys.VIEW_2)):
            require_float(batch, view)
            query = self.predictor(self.online(batch[view], training=training), training=training)
            outputs[f"query_{number}"] = query
            outputs[f"key_{number}"] = ops.stop_gradient(self.target(batch[view], training=training))
        return outputs

    def loss_terms(self, outputs):
        # The queries of each view against the keys of the other.
        forth = self.contrast(outputs["query_1"], outputs["key_2"])["loss"]
        return {"loss": forth + self.contrast(outputs["query_2"], outputs["key_1"])["loss"]}

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "projector_width": self.projector_width,
            "embedding_width": self.embedding_width,
            "temperature": self.temperature,
            "train_patch_embedding": self.train_patch_embedding,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**cls.deserialize_arguments(config))
