"""MoCo v3."""

import keras
from keras import ops

from keras_siamim import batch as keys
from keras_siamim.layers import MlpHead
from keras_siamim.layers.arguments import whole_number
from keras_siamim.losses import InfoNCE
from keras_siamim.objectives.momentum import MomentumObjective
from keras_siamim.objectives.validation import require_float, require_keys


@keras.saving.register_keras_serializable(package="keras_siamim")
class MoCoBranch(keras.layers.Layer):
    """What online and target branch have in common: encoder and projector.

    Args:
        encoder: A `ViTEncoder`.
        widths: Output channels of the projector's layers.
        **kwargs: As for every Keras layer.
    """

    def __init__(self, encoder, widths, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.widths = list(widths)
        self.projector = MlpHead(self.widths, dtype=self.dtype_policy, name="projector")

    def build(self, input_shape=None):
        """Create the weights; the encoder is built already."""
        self.projector.build((None, self.encoder.width))

    def call(self, images, training=False):
        """Images to one vector each, (batch, widths[-1]): the projected class token."""
        return self.projector(self.encoder(images, training=training)[:, 0], training=training)

    def get_config(self):
        """Constructor arguments."""
        encoder = keras.saving.serialize_keras_object(self.encoder)
        return {**super().get_config(), "encoder": encoder, "widths": self.widths}

    @classmethod
    def from_config(cls, config):
        """Inverse of `get_config`."""
        return cls(**{**config, "encoder": keras.saving.deserialize_keras_object(config["encoder"])})


@keras.saving.register_keras_serializable(package="keras_siamim")
class MoCoV3(MomentumObjective):
    """MoCo v3 (arXiv 2104.02057): tell which vector of the momentum branch comes from another view of the same image.

    Args:
        encoder: A `ViTEncoder`, the paper's with `final_norm=True`; it is trained in place and is what one keeps.
        projector_width: Hidden channels of the projector, three dense layers, and of the predictor, two.
        embedding_width: Channels of the vectors compared.
        temperature: Divisor of their cosine similarities.
        train_patch_embedding: Whether the patch embedding is trained; the paper freezes it at its initial values.
        target_momentum: Number within 0...1, or a schedule such as `CosineMomentum(0.99, total_steps)`.
        **kwargs: As for every Keras model.

    Call:
        batch: Dictionary with `view_1` and `view_2`, see `keras_siamim.batch`.
        training: Whether BatchNorm uses the batch's statistics.
        Returns a dictionary of (batch, embedding_width): `query_1`, `query_2` from the online branch and the predictor,
        `key_1`, `key_2` from the target branch, without gradient.

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
        encoder,
        projector_width=4096,
        embedding_width=256,
        temperature=0.2,
        train_patch_embedding=False,
        target_momentum=0.99,
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
    def encoder(self):
        """The online encoder: what is kept."""
        return self.online.encoder

    def build(self, input_shape=None):
        """Create all weights; the constructor does so."""
        if self.built:
            return
        self.online.build()
        self.target.build()
        self.predictor.build((None, self.embedding_width))
        self.pair_branches(self.online, self.target)
        self.encoder.patch_embedding.set_trainable(self.train_patch_embedding)
        self.built = True

    def call(self, batch, training=False):
        """Queries and keys of a batch; see the class."""
        require_keys(batch, self.batch_keys)
        outputs = {}
        for number, view in (("1", keys.VIEW_1), ("2", keys.VIEW_2)):
            require_float(batch, view)
            query = self.predictor(self.online(batch[view], training=training), training=training)
            outputs[f"query_{number}"] = query
            outputs[f"key_{number}"] = ops.stop_gradient(self.target(batch[view], training=training))
        return outputs

    def loss_terms(self, outputs):
        """The loss from what `call` gave: each view's queries against the other view's keys, summed."""
        forth = self.contrast(outputs["query_1"], outputs["key_2"])["loss"]
        return {"loss": forth + self.contrast(outputs["query_2"], outputs["key_1"])["loss"]}

    def get_config(self):
        """Constructor arguments."""
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
        """Inverse of `get_config`."""
        return cls(**cls.deserialize_arguments(config))
