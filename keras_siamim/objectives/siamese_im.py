"""Siamese Image Modeling."""

import keras
from keras import ops

from keras_siamim import batch as keys
from keras_siamim.layers import Token, TransformerBlock
from keras_siamim.losses import UniGrad
from keras_siamim.objectives.momentum import MomentumObjective, freeze
from keras_siamim.objectives.validation import require_float, require_keys, require_visible_count
from keras_siamim.ops import relative_position_embedding, sincos_position_table, standardize


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
        self.embedding = keras.layers.Dense(width, dtype=self.dtype_policy, name="embedding")
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
        config["encoder"] = keras.saving.deserialize_keras_object(config["encoder"])
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_siamim")
class SiameseIM(MomentumObjective):
    """Siamese Image Modeling (arXiv 2206.01204): predict the dense features of another view from a masked one.

    The online branch encodes the visible patches of view 1; the decoder, told only where the patches of view 2 lie,
    predicts what the momentum branch makes of them.

    Args:
        encoder: A `ViTEncoder`; it is trained in place and is what one keeps.
        decoder_width: Width of projector and decoder, a multiple of 4 and of `decoder_heads`.
        decoder_heads: Attention heads of projector and decoder.
        projector_depth: Blocks of the projector.
        decoder_depth: Blocks of the decoder.
        projector_norm: Norms of the projector, `"batch"` (see `TokenBatchNorm`) or `"layer"`.
        decoder_norm: Norms of the decoder, likewise.
        decoder_mlp_ratio: Hidden width of their MLPs over `decoder_width`.
        train_patch_embedding: Whether the patch embedding is trained; the paper freezes it at its initial values.
        normalize_prediction: Whether a LayerNorm with frozen affine part is applied to the prediction.
        loss: The dense loss, called with predictions and targets; `UniGrad()` by default.
        target_momentum: Number within 0...1, or a schedule such as `CosineMomentum(0.995, total_steps)`.
        **kwargs: As for every Keras model.

    Call:
        batch: Dictionary with `view_1`, `view_2`, `relative_affine` and `visible_ids`, see `keras_siamim.batch`.
        training: Whether BatchNorm uses the batch's statistics.
        Returns a dictionary of (batch, patches of view 2, decoder_width): `prediction` and, float32, `target`.

    Raises:
        ValueError: For sizes that do not fit, and for batches that lack keys, floats or patches.

    Example:
        >>> encoder = ViTEncoder(image_size=32, patch_size=8, width=24, depth=1, num_heads=3)
        >>> model = SiameseIM(encoder, decoder_width=32, decoder_heads=4, target_momentum=0.99)
        >>> model.compile(AdamW(1e-3, global_clipnorm=1.0))
    """

    batch_keys = (keys.VIEW_1, keys.VIEW_2, keys.RELATIVE_AFFINE, keys.VISIBLE_IDS)
    loss_names = UniGrad.terms

    def __init__(
        self,
        encoder,
        decoder_width=768,
        decoder_heads=16,
        projector_depth=2,
        decoder_depth=4,
        projector_norm="batch",
        decoder_norm="batch",
        decoder_mlp_ratio=4,
        train_patch_embedding=False,
        normalize_prediction=False,
        loss=None,
        target_momentum=0.995,
        **kwargs,
    ):
        super().__init__(target_momentum=target_momentum, **kwargs)
        sincos_position_table((1, 1), decoder_width)  # refuses a width that positions do not divide
        self.decoder_width = decoder_width
        self.decoder_heads = decoder_heads
        self.projector_depth = projector_depth
        self.decoder_depth = decoder_depth
        self.projector_norm = projector_norm
        self.decoder_norm = decoder_norm
        self.decoder_mlp_ratio = decoder_mlp_ratio
        self.train_patch_embedding = train_patch_embedding
        self.normalize_prediction = normalize_prediction
        self.dense_loss = loss or UniGrad()

        policy = self.dtype_policy
        self.online = self._branch(encoder, "online")
        self.target = self._branch(self.copy_encoder(encoder), "target")
        self.position_projection = keras.layers.Dense(decoder_width, dtype=policy, name="position_projection")
        self.decoder = [
            TransformerBlock(decoder_heads, decoder_mlp_ratio, decoder_norm, dtype=policy, name=f"decoder_{index}")
            for index in range(decoder_depth)
        ]
        self.head = keras.layers.Dense(decoder_width, dtype=policy, name="head")
        self.prediction_norm = None
        if normalize_prediction:
            self.prediction_norm = keras.layers.LayerNormalization(
                epsilon=1e-5, dtype="float32", name="prediction_norm"
            )
        self.build()

    def _branch(self, encoder, name):
        return SiameseBranch(
            encoder,
            self.decoder_width,
            self.decoder_heads,
            self.projector_depth,
            self.projector_norm,
            self.decoder_mlp_ratio,
            dtype=self.dtype_policy,
            name=name,
        )

    @property
    def encoder(self):
        """The online encoder: what is kept."""
        return self.online.encoder

    def build(self, input_shape=None):
        """Create all weights; the constructor does so."""
        if self.built:
            return
        tokens = (None, None, self.decoder_width)
        self.online.build()
        self.target.build()
        self.position_projection.build((None, None, 2 * self.decoder_width))
        for block in self.decoder:
            block.build(tokens)
        self.head.build(tokens)
        if self.prediction_norm is not None:
            self.prediction_norm.build(tokens)
            freeze(self.prediction_norm.variables)
        self.pair_branches(self.online, self.target)
        self.encoder.patch_embedding.set_trainable(self.train_patch_embedding)
        self.built = True

    def call(self, batch, training=False):
        """Prediction and target of a batch; see the class."""
        outputs = self.intermediates(batch, training)
        return {"prediction": outputs["prediction"], "target": outputs["target"]}

    def intermediates(self, batch, training=False):
        """Every tensor on the way: `encoded`, `projected`, `decoder_in`, `decoded`, `prediction` and `target`."""
        self._check(batch)
        view_1, view_2, visible_ids = (batch[key] for key in (keys.VIEW_1, keys.VIEW_2, keys.VISIBLE_IDS))
        encoded = self.encoder(view_1, visible_ids, training=training)
        projected = self.online.project(encoded, training=training)
        asked = self.ask(batch[keys.RELATIVE_AFFINE], view_1.shape, view_2.shape)
        decoder_in = ops.concatenate([self._placed(projected, visible_ids, view_1.shape), asked], axis=1)
        decoded = decoder_in
        for block in self.decoder:
            decoded = block(decoded, training=training)
        prediction = self.head(decoded[:, -asked.shape[1] :])
        if self.prediction_norm is not None:
            prediction = self.prediction_norm(prediction)
        return {
            "encoded": encoded,
            "projected": projected,
            "decoder_in": decoder_in,
            "decoded": decoded,
            "prediction": prediction,
            "target": self.targets(view_2, training),
        }

    def _placed(self, projected, visible_ids, view_1_shape):
        """Projected tokens with the decoder's positions of their own places in view 1; zero for the class token."""
        table = sincos_position_table(self.encoder.patch_embedding.grid(view_1_shape), self.decoder_width)
        positions = ops.take(ops.convert_to_tensor(table, dtype=projected.dtype), visible_ids, axis=0)
        return ops.concatenate([projected[:, :1], projected[:, 1:] + positions], axis=1)

    def ask(self, relative_affine, view_1_shape, view_2_shape):
        """Mask tokens at the places of view 2's patches in view 1: (batch, patches of view 2, decoder_width)."""
        grids = [self.encoder.patch_embedding.grid(shape) for shape in (view_1_shape, view_2_shape)]
        embedding = relative_position_embedding(relative_affine, *grids, self.decoder_width)
        token = self.online.mask_token.repeat(1)
        return self.position_projection(embedding) + token

    def targets(self, images, training=False):
        """Targets (batch, patches, decoder_width) float32 of whole images: the momentum branch, standardised."""
        return ops.stop_gradient(standardize(self.target(images, training=training)[:, 1:], epsilon=1e-5))

    def loss_terms(self, outputs):
        """Loss and its terms from what `call` gave."""
        return self.dense_loss(outputs["prediction"], outputs["target"])

    def _check(self, batch):
        """What shapes and dtypes alone can tell; `fit` checks values too."""
        require_keys(batch, self.batch_keys)
        require_float(batch, keys.VIEW_1)
        require_float(batch, keys.VIEW_2)
        rows, columns = self.encoder.patch_embedding.grid(batch[keys.VIEW_1].shape)
        require_visible_count(batch[keys.VISIBLE_IDS], rows * columns)

    def get_config(self):
        """Constructor arguments."""
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder_width": self.decoder_width,
            "decoder_heads": self.decoder_heads,
            "projector_depth": self.projector_depth,
            "decoder_depth": self.decoder_depth,
            "projector_norm": self.projector_norm,
            "decoder_norm": self.decoder_norm,
            "decoder_mlp_ratio": self.decoder_mlp_ratio,
            "train_patch_embedding": self.train_patch_embedding,
            "normalize_prediction": self.normalize_prediction,
            "loss": keras.saving.serialize_keras_object(self.dense_loss),
        }

    @classmethod
    def from_config(cls, config):
        """Inverse of `get_config`."""
        return cls(**cls.revived(config))
