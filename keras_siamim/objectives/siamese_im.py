"""Siamese Image Modeling."""

import keras
from keras import ops

from keras_siamim import batch as keys
from keras_siamim.layers import Dense, TransformerBlock
from keras_siamim.layers.arguments import height_and_width, positive_number, whole_number
from keras_siamim.layers.patch_embedding import checked_grid
from keras_siamim.losses import UniGrad, get_loss
from keras_siamim.losses.unigrad import scaled_negative_weight
from keras_siamim.objectives.ablations import (
    POSITION_CHANNELS,
    PREDICTION_TARGETS,
    RELATIVE_POSITIONS,
    SCOPES,
    TARGET_VIEW_KEYS,
    TARGET_VIEWS,
    choose,
    random_patches,
    scope_weights,
)
from keras_siamim.objectives.branch import SiameseBranch
from keras_siamim.objectives.momentum import MomentumObjective
from keras_siamim.objectives.validation import check_batch, require_count, require_float, require_keys
from keras_siamim.ops import gather_tokens, sincos_position_table


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
        target_view: What the target is made of: the `"other"` view, or the `"same"` one, in its place in itself.
        target_image_size: (height, width) or one number that the target's view is resized to, or None to leave it:
            fewer, larger patches that cover the same places, for a cheaper target.
        target_keep_ratio: Share of the target's patches that the decoder is asked for in training, drawn at random.
        relative_positions: What the decoder is told of the patches of view 2: place and size in view 1 (`"scale"`),
            place alone (`"no_scale"`), or only their place in view 2 (`"none"`).
        prediction_target: What it predicts of view 2: `"features"` of the momentum branch, `"kept_features"` of a
            momentum branch that sees nothing but the patches asked for, `"pixels"` or `"normalized_pixels"` (then there
            is no momentum branch).
        scope: Where prediction and target are compared: at every patch (`"dense"`), in their mean over the patches
            (`"global"`), or both with weights, as `{"dense": 1.0, "global": 0.5}`.
        loss: How: `"unigrad"`, `"info_nce"`, `"mse"`, `"normalized_mse"`, `"cosine"`, or a `keras_siamim.losses.Loss`
            with settings of its own, also as a dictionary of its `name` and arguments.
        negative_weight: Weight of UniGrad's term that keeps features apart, with `loss="unigrad"`. Defaults to the
            paper's 0.02 times 768 / `decoder_width`.
        target_momentum: Number within 0...1, or a schedule such as `CosineMomentum(0.995, total_steps)`.
        **kwargs: As for every Keras model.

    Call:
        batch: Dictionary with `view_1`, `view_2`, `relative_affine` and `visible_ids`, see `keras_siamim.batch`. With
            `target_ids` the decoder is asked, and the loss taken, at those patches of view 2 alone. View 2 may be of
            another size than view 1.
        training: Whether BatchNorm uses the batch's statistics.
        Returns a dictionary of (batch, patches asked for, width): `prediction` and, float32, `target`.

    Raises:
        ValueError: For sizes that do not fit, and for batches that lack keys, floats or patches.

    Example:
        >>> encoder = ViTEncoder(image_size=32, patch_size=8, width=24, depth=1, num_heads=3)
        >>> model = SiameseIM(encoder, decoder_width=32, decoder_heads=4, target_momentum=0.99)
        >>> model.compile(AdamW(1e-3, global_clipnorm=1.0))
    """

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
        target_view="other",
        target_image_size=None,
        target_keep_ratio=1.0,
        relative_positions="scale",
        prediction_target="features",
        scope="dense",
        loss="unigrad",
        negative_weight=None,
        target_momentum=0.995,
        **kwargs,
    ):
        decoder_width = whole_number("decoder_width", decoder_width)
        if loss == "unigrad":
            weight = scaled_negative_weight(decoder_width) if negative_weight is None else negative_weight
            criterion = UniGrad(weight)
        elif negative_weight is not None:
            raise ValueError(f"`negative_weight` must be None unless `loss` is 'unigrad'. Received: {negative_weight}.")
        else:
            criterion = get_loss(loss)
        super().__init__(target_momentum=target_momentum, loss_names=criterion.terms, **kwargs)
        sincos_position_table((1, 1), decoder_width)  # refuses a width that positions do not divide
        self.decoder_width = decoder_width
        self.decoder_heads = decoder_heads = whole_number("decoder_heads", decoder_heads)
        self.projector_depth = whole_number("projector_depth", projector_depth, minimum=0)
        self.decoder_depth = decoder_depth = whole_number("decoder_depth", decoder_depth)
        self.projector_norm = projector_norm
        self.decoder_norm = decoder_norm
        self.decoder_mlp_ratio = positive_number("decoder_mlp_ratio", decoder_mlp_ratio)
        self.train_patch_embedding = train_patch_embedding
        self.normalize_prediction = normalize_prediction
        self.target_view = target_view
        self.target_image_size = None
        if target_image_size is not None:
            self.target_image_size = height_and_width("target_image_size", target_image_size)
            checked_grid(*self.target_image_size, encoder.patch_size)
        self.target_keep_ratio = target_keep_ratio
        self.relative_positions = relative_positions
        self.prediction_target = prediction_target
        self.scope = scope_weights(scope)
        self.criterion = criterion
        if not 0 < target_keep_ratio <= 1:
            raise ValueError(f"`target_keep_ratio` must be above 0 and at most 1. Received: {target_keep_ratio}.")
        self.seed_generator = keras.random.SeedGenerator() if target_keep_ratio < 1 else None
        self.choose_view = choose(TARGET_VIEWS, "target_view", target_view)
        self.batch_keys = (keys.VIEW_1, keys.VISIBLE_IDS, *TARGET_VIEW_KEYS[target_view])
        self.embed_positions = choose(RELATIVE_POSITIONS, "relative_positions", relative_positions)
        self.make_targets = choose(PREDICTION_TARGETS, "prediction_target", prediction_target)

        policy = self.dtype_policy
        self.online = self._branch(encoder, "online")
        self.target = self._branch(self.copy_encoder(encoder), "target") if self.make_targets.has_branch else None
        self.position_projection = Dense(decoder_width, dtype=policy, name="position_projection")
        self.decoder = [
            TransformerBlock(decoder_heads, decoder_mlp_ratio, decoder_norm, dtype=policy, name=f"decoder_{index}")
            for index in range(decoder_depth)
        ]
        self.head = Dense(self.make_targets.width(self), dtype=policy, name="head")
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
        channels = POSITION_CHANNELS[self.relative_positions] * self.decoder_width
        self.position_projection.build((None, None, channels))
        for block in self.decoder:
            block.build(tokens)
        self.head.build(tokens)
        if self.prediction_norm is not None:
            self.prediction_norm.build((None, None, self.head.units))
            self.prediction_norm.trainable = False
        if self.target is not None:
            self.target.build()
            self.pair_branches(self.online, self.target)
        self.encoder.patch_embedding.set_trainable(self.train_patch_embedding)
        self.built = True

    def call(self, batch, training=False):
        """Prediction and target of a batch; see the class."""
        outputs = self.intermediates(batch, training)
        return {"prediction": outputs["prediction"], "target": outputs["target"]}

    def intermediates(self, batch, training=False):
        """Every tensor on the way, by its name in the paper's figure 3.

        These are `encoded`, `projected`, `decoder_in`, `decoded`, `prediction` and `target`.
        """
        self._check(batch)
        view_1, visible_ids = batch[keys.VIEW_1], batch[keys.VISIBLE_IDS]
        view_2, relative_affine, target_ids = self.question(batch, training)
        encoded = self.encoder(view_1, visible_ids, training=training)
        projected = self.online.project(encoded, training=training)
        asked = self.ask(relative_affine, view_1.shape, view_2.shape, target_ids)
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
            "target": self.targets(view_2, target_ids, training),
        }

    def question(self, batch, training=False):
        """What is asked: the target's view, its place in view 1, and the numbers of its patches (None: all of them)."""
        view, relative_affine = self.choose_view(batch)
        if self.target_image_size is not None:
            view = ops.image.resize(view, self.target_image_size, antialias=True, data_format=self.encoder.data_format)
        target_ids = batch.get(keys.TARGET_IDS)
        if target_ids is None and training and self.seed_generator is not None:
            rows, columns = self.encoder.patch_embedding.grid(view.shape)
            kept = max(1, round(self.target_keep_ratio * rows * columns))
            target_ids = random_patches(ops.shape(view)[0], rows * columns, kept, self.seed_generator)
        return view, relative_affine, target_ids

    def _placed(self, projected, visible_ids, view_1_shape):
        """Projected tokens with the decoder's positions of their own places in view 1; zero for the class token."""
        table = sincos_position_table(self.encoder.patch_embedding.grid(view_1_shape), self.decoder_width)
        positions = ops.take(ops.convert_to_tensor(table, dtype=projected.dtype), visible_ids, axis=0)
        return ops.concatenate([projected[:, :1], projected[:, 1:] + positions], axis=1)

    def ask(self, relative_affine, view_1_shape, view_2_shape, target_ids=None):
        """Mask tokens at the places of view 2's patches: (batch, patches asked for, decoder_width)."""
        grids = [self.encoder.patch_embedding.grid(shape) for shape in (view_1_shape, view_2_shape)]
        embedding = self.embed_positions(relative_affine, *grids, self.decoder_width)
        if target_ids is not None:
            embedding = gather_tokens(embedding, target_ids)
        return self.position_projection(embedding) + self.online.mask_token.repeat(1)

    def targets(self, images, target_ids=None, training=False):
        """Targets (batch, patches asked for, width) float32 of view 2."""
        return ops.stop_gradient(self.make_targets(self, images, target_ids, training))

    def loss_terms(self, outputs):
        """Loss and its terms from what `call` gave."""
        parts = [
            (weight, self.criterion(*(SCOPES[scope](outputs[name]) for name in ("prediction", "target"))))
            for scope, weight in self.scope.items()
        ]
        return {term: sum(part[term] * weight for weight, part in parts) for term in ("loss", *self.criterion.terms)}

    def check_values(self, batch):
        """Check the values of a batch of NumPy arrays, see `check_batch`."""
        check_batch(batch, self.batch_keys, self.encoder, self.target_image_size)

    def _check(self, batch):
        """What shapes and dtypes alone can tell; `fit` checks values too."""
        require_keys(batch, self.batch_keys)
        require_float(batch, keys.VIEW_1)
        if keys.VIEW_2 in self.batch_keys:
            require_float(batch, keys.VIEW_2)
        rows, columns = self.encoder.patch_embedding.grid(batch[keys.VIEW_1].shape)
        require_count(batch, keys.VISIBLE_IDS, rows * columns)

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
            "target_view": self.target_view,
            "target_image_size": self.target_image_size and list(self.target_image_size),
            "target_keep_ratio": self.target_keep_ratio,
            "relative_positions": self.relative_positions,
            "prediction_target": self.prediction_target,
            "scope": dict(self.scope),
            "loss": keras.saving.serialize_keras_object(self.criterion),
        }

    @classmethod
    def from_config(cls, config):
        """Inverse of `get_config`."""
        return cls(**cls.deserialize_arguments(config))
