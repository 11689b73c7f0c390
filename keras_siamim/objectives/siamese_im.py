"""Siamese Image Modeling in the paper's setting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_siamim import batch as keys
from keras_siamim.arguments import number_in, whole_number
from keras_siamim.layers import Dense, TransformerBlock
from keras_siamim.losses import Loss, UniGrad, get_loss
from keras_siamim.losses.unigrad import scaled_negative_weight
from keras_siamim.objectives.branch import SiameseBranch
from keras_siamim.objectives.momentum import MomentumObjective
from keras_siamim.objectives.validation import require_count, require_float, require_keys
from keras_siamim.ops import gather_tokens, relative_position_embedding, sincos_position_table, standardize
from keras_siamim.types import Batch, Tensor


@keras.saving.register_keras_serializable(package="keras_siamim")
class SiameseIM(MomentumObjective):
    """Siamese Image Modeling (arXiv 2206.01204): predict the dense features of another view from a masked one.

    The online branch encodes the visible patches of view 1. The decoder predicts the momentum branch's features of
    view 2, given only the positions of view 2's patches relative to view 1. `SiameseIMAblation` varies single steps.

    Args:
        encoder: `ViTEncoder` or `ConvNeXtEncoder`, trained in place; the part that users keep.
        decoder_width: int. Width of projector and decoder, a multiple of 4 and of `decoder_heads`. Defaults to 768.
        decoder_heads: int. Attention heads of projector and decoder. Defaults to 16.
        projector_depth: int. Blocks of the projector. Defaults to 2.
        decoder_depth: int. Blocks of the decoder. Defaults to 4.
        projector_norm: `"batch"` (`TokenBatchNorm`) or `"layer"`. Norms of the projector. Defaults to `"batch"`.
        decoder_norm: `"batch"` or `"layer"`. Norms of the decoder. Defaults to `"batch"`.
        decoder_mlp_ratio: float. Hidden width of their MLPs over `decoder_width`. Defaults to 4.
        train_patch_embedding: bool. Whether to train the patch embedding, which the paper freezes at its initial
            values. Defaults to False.
        normalize_prediction: bool. Whether to apply a LayerNorm with frozen weights to the prediction. Defaults to
            False.
        loss: `"unigrad"`, `"info_nce"`, `"mse"`, `"normalized_mse"`, `"cosine"`, a `keras_siamim.losses.Loss`, or a
            dictionary of its `name` and arguments. Defaults to `"unigrad"`.
        negative_weight: float. Weight of UniGrad's term that keeps features apart, only with `loss="unigrad"`. Defaults
            to the paper's 0.02 times 768 / `decoder_width`.
        target_momentum: float in [0, 1], or a schedule such as `CosineMomentum(0.995, total_steps)`. Defaults to 0.995.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        batch: Dictionary with `view_1`, `view_2`, `relative_affine` and `visible_ids`, see `keras_siamim.batch`. With
            `target_ids` only those patches of view 2 are predicted. The views may differ in size.
        training: bool. Whether BatchNorm uses the statistics of the batch.

    Returns:
        Dictionary of `prediction` and `target`, (batch, predicted patches, decoder_width); `target` is float32.

    Raises:
        ValueError: For sizes that do not fit, and for batches that lack keys, floats or patches.

    Example:
        >>> from keras_siamim import AdamW, SiameseIM, ViTEncoder
        >>> encoder = ViTEncoder(image_size=32, patch_size=8, width=24, depth=1, num_heads=3)
        >>> model = SiameseIM(encoder, decoder_width=32, decoder_heads=4, target_momentum=0.99)
        >>> model.compile(AdamW(1e-3, global_clipnorm=1.0))
    """

    batch_keys = (keys.VIEW_1, keys.VIEW_2, keys.RELATIVE_AFFINE, keys.VISIBLE_IDS)

    def __init__(
        self,
        encoder: keras.Model,
        decoder_width: int = 768,
        decoder_heads: int = 16,
        projector_depth: int = 2,
        decoder_depth: int = 4,
        projector_norm: str = "batch",
        decoder_norm: str = "batch",
        decoder_mlp_ratio: float = 4,
        train_patch_embedding: bool = False,
        normalize_prediction: bool = False,
        loss: str | dict | Loss = "unigrad",
        negative_weight: float | None = None,
        target_momentum: float | Callable = 0.995,
        **kwargs,
    ):
        criterion = _criterion(loss, negative_weight, whole_number("decoder_width", decoder_width))
        super().__init__(target_momentum=target_momentum, loss_names=criterion.terms, **kwargs)
        self.criterion = criterion
        self.decoder_width = whole_number("decoder_width", decoder_width)
        sincos_position_table((1, 1), self.decoder_width)  # raises for a width that positions do not divide
        self.decoder_heads = whole_number("decoder_heads", decoder_heads)
        self.projector_depth = whole_number("projector_depth", projector_depth, minimum=0)
        self.decoder_depth = whole_number("decoder_depth", decoder_depth)
        self.projector_norm, self.decoder_norm = projector_norm, decoder_norm
        self.decoder_mlp_ratio = number_in("decoder_mlp_ratio", decoder_mlp_ratio, "(0, inf)")
        self.train_patch_embedding = train_patch_embedding
        self.normalize_prediction = normalize_prediction

        policy = self.dtype_policy
        self.online = self._branch(encoder, "online")
        self.target = self._branch(self.copy_encoder(encoder), "target") if self.has_target_branch else None
        self.position_projection = Dense(self.decoder_width, dtype=policy, name="position_projection")
        self.decoder = [
            TransformerBlock(self.decoder_heads, decoder_mlp_ratio, decoder_norm, dtype=policy, name=f"decoder_{index}")
            for index in range(self.decoder_depth)
        ]
        self.head = Dense(self.target_width, dtype=policy, name="head")
        norm = {"epsilon": 1e-5, "dtype": "float32", "name": "prediction_norm"}
        self.prediction_norm = keras.layers.LayerNormalization(**norm) if normalize_prediction else None
        self.build()

    def call(self, batch, training=False):
        outputs = self.intermediates(batch, training)
        return {"prediction": outputs["prediction"], "target": outputs["target"]}

    def intermediates(self, batch: Batch, training: bool = False) -> Batch:
        """Return every tensor between batch and loss, by its name in the paper's figure 3.

        These are `encoded`, `projected`, `decoder_in`, `decoded`, `prediction` and `target`.
        """
        self._check_shapes(batch)
        view_1, visible_ids = batch[keys.VIEW_1], batch[keys.VISIBLE_IDS]
        view_2, relative_affine, target_ids = self.select_target(batch, training)
        grid_1, grid_2 = (self.encoder.grid_of(view.shape) for view in (view_1, view_2))

        # Online branch: the visible patches of view 1.
        encoded = self.encoder(view_1, visible_ids, training=training)
        projected = self.online.project(encoded, training=training)

        # Decoder: projected tokens at their own positions, and one mask token per patch of view 2 at its position
        # relative to view 1 (section 3.2). The class token, if there is one, has no position.
        table = ops.convert_to_tensor(sincos_position_table(grid_1, self.decoder_width), dtype=projected.dtype)
        prefix = self.encoder.num_prefix_tokens
        tokens = [projected[:, :prefix], projected[:, prefix:] + ops.take(table, visible_ids, axis=0)]
        positions = self.embed_positions(relative_affine, grid_1, grid_2)
        if target_ids is not None:
            positions = gather_tokens(positions, target_ids)
        queries = self.position_projection(positions) + self.online.mask_token.repeat(1)
        decoder_in = decoded = ops.concatenate([*tokens, queries], axis=1)
        for block in self.decoder:
            decoded = block(decoded, training=training)
        prediction = self.head(decoded[:, -queries.shape[1] :])
        if self.prediction_norm is not None:
            prediction = self.prediction_norm(prediction)

        # Target branch: all patches of view 2, without gradient.
        target = ops.stop_gradient(self.target_features(view_2, target_ids, training))
        return {
            "encoded": encoded,
            "projected": projected,
            "decoder_in": decoder_in,
            "decoded": decoded,
            "prediction": prediction,
            "target": target,
        }

    def loss_terms(self, outputs):
        return self.criterion(outputs["prediction"], outputs["target"])

    # The four steps below, and the loss, are what `SiameseIMAblation` varies.

    has_target_branch: bool = True
    target: Any

    @property
    def target_width(self) -> int:
        """Channels of prediction and target."""
        return self.decoder_width

    def select_target(self, batch: Batch, training: bool) -> tuple:
        """Return the images to predict, their `relative_affine`, and the patches to predict (None: all of them)."""
        return batch[keys.VIEW_2], batch[keys.RELATIVE_AFFINE], batch.get(keys.TARGET_IDS)

    def embed_positions(self, relative_affine: Tensor, grid_1: tuple[int, int], grid_2: tuple[int, int]) -> Tensor:
        """Return position and scale of view 2's patches relative to view 1, (batch, patches, 2 * decoder_width)."""
        return relative_position_embedding(relative_affine, grid_1, grid_2, self.decoder_width)

    def target_features(self, images: Tensor, target_ids: Tensor | None = None, training: bool = False) -> Tensor:
        """Return the momentum branch's standardized patch tokens, (batch, patches, decoder_width) float32."""
        tokens = self.target(images, training=training)[:, self.encoder.num_prefix_tokens :]
        return standardize(tokens if target_ids is None else gather_tokens(tokens, target_ids), epsilon=1e-5)

    @property
    def encoder(self) -> keras.Model:
        """The online encoder, which users keep."""
        return self.online.encoder

    def build(self, input_shape=None):
        if self.built:
            return
        tokens = (None, None, self.decoder_width)
        self.online.build()
        self.position_projection.build(self.embed_positions(ops.ones((1, 4)), (1, 1), (1, 1)).shape)
        for layer in (*self.decoder, self.head):
            layer.build(tokens)
        if self.prediction_norm is not None:
            self.prediction_norm.build((None, None, self.target_width))
            self.prediction_norm.trainable = False
        if self.target is not None:
            self.target.build()
            self.pair_branches(self.online, self.target)
        self.encoder.patch_embedding.set_trainable(self.train_patch_embedding)
        self.built = True

    def _branch(self, encoder, name):
        sizes = (self.decoder_width, self.decoder_heads, self.projector_depth)
        options = {"norm": self.projector_norm, "mlp_ratio": self.decoder_mlp_ratio}
        return SiameseBranch(encoder, *sizes, **options, dtype=self.dtype_policy, name=name)

    def _check_shapes(self, batch):
        # Shapes and dtypes alone; `fit` checks values too.
        require_keys(batch, self.batch_keys)
        for key in {keys.VIEW_1, keys.VIEW_2} & set(self.batch_keys):
            require_float(batch, key)
        rows, columns = self.encoder.grid_of(batch[keys.VIEW_1].shape)
        require_count(batch, keys.VISIBLE_IDS, rows * columns)

    def get_config(self):
        names = ("decoder_width", "decoder_heads", "projector_depth", "decoder_depth", "projector_norm", "decoder_norm")
        names += ("decoder_mlp_ratio", "train_patch_embedding", "normalize_prediction")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "loss": keras.saving.serialize_keras_object(self.criterion),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**cls.deserialize_arguments(config))


def _criterion(loss, negative_weight, width):
    if loss == "unigrad":
        return UniGrad(scaled_negative_weight(width) if negative_weight is None else negative_weight)
    if negative_weight is not None:
        raise ValueError(f"`negative_weight` must be None unless `loss` is 'unigrad'. Received: {negative_weight}.")
    return get_loss(loss)
