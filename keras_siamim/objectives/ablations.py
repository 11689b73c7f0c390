"""SiameseIM with single steps varied: the axes of the paper's comparison (arXiv 2206.01204, section 4.3).

Each axis is an object with one job. `SiameseIMAblation` takes any combination of them, by name or as objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_siamim import batch as keys
from keras_siamim.arguments import height_and_width
from keras_siamim.backbones import ViTEncoder
from keras_siamim.layers.patch_embedding import checked_grid
from keras_siamim.losses import normalize_pixels
from keras_siamim.objectives.siamese_im import SiameseIM
from keras_siamim.objectives.validation import check_batch
from keras_siamim.ops import (
    gather_tokens,
    patchify,
    relative_position_embedding,
    sincos_position_table,
    standardize,
)
from keras_siamim.types import Size, Tensor


class OtherView:
    """Target view of the paper: view 2, another augmentation of the image."""

    batch_keys = (keys.VIEW_2, keys.RELATIVE_AFFINE)

    def __call__(self, batch):
        return batch[keys.VIEW_2], batch[keys.RELATIVE_AFFINE]


class SameView:
    """Target view of masked image modeling: view 1 itself, unmasked, at its own position."""

    batch_keys = ()

    def __call__(self, batch):
        identity = ops.convert_to_tensor(np.array([[0, 0, 1, 1]], "float32"))
        return batch[keys.VIEW_1], ops.broadcast_to(identity, (ops.shape(batch[keys.VIEW_1])[0], 4))


class PositionAndScale:
    """Positions of the paper: position and size of view 2's patches in view 1, 2 * width channels."""

    def __call__(self, relative_affine, grid_1, grid_2, width):
        return relative_position_embedding(relative_affine, grid_1, grid_2, width)


class PositionOnly:
    """Position of view 2's patches in view 1, `width` channels."""

    def __call__(self, relative_affine, grid_1, grid_2, width):
        return relative_position_embedding(relative_affine, grid_1, grid_2, width, with_scale=False)


class OwnPosition:
    """Position of view 2's patches in view 2, independent of view 1, `width` channels."""

    def __call__(self, relative_affine, grid_1, grid_2, width):
        table = ops.convert_to_tensor(sincos_position_table(grid_2, width))[None]
        return ops.broadcast_to(table, (ops.shape(relative_affine)[0], grid_2[0] * grid_2[1], width))


class MomentumFeatures:
    """Target of the paper: standardized tokens of the momentum branch over the whole view.

    A target object has `has_branch`, whether there is a momentum branch; `width(model)`, its channels; and a call that
    returns targets (batch, patches, width) float32 of `images` at the patches `ids`, (batch, predicted) int32, or at
    all patches.
    """

    has_branch = True

    def width(self, model: SiameseIM) -> int:
        """Return the decoder's width."""
        return model.decoder_width

    def __call__(self, model, images, ids, training):
        tokens = model.target(images, training=training)[:, model.encoder.num_prefix_tokens :]
        return standardize(tokens if ids is None else gather_tokens(tokens, ids), epsilon=1e-5)


class KeptMomentumFeatures(MomentumFeatures):
    """Tokens of a momentum branch that sees only the predicted patches: cheaper, with less context."""

    def __call__(self, model, images, ids, training):
        tokens = model.target(images, ids, training=training)
        return standardize(tokens[:, model.encoder.num_prefix_tokens :], epsilon=1e-5)


class LastLayers(MomentumFeatures):
    """Mean of the last layers of the momentum encoder: standardized patch tokens of several blocks of a ViT.

    The target has no projector, and the prediction has the encoder's width (data2vec, arXiv 2202.03555, section 3.3).
    """

    def __init__(self, count: int):
        self.count = count

    def width(self, model: SiameseIM) -> int:
        """Return the encoder's width."""
        if not isinstance(model.encoder, ViTEncoder) or model.encoder.depth < self.count:
            raise ValueError(
                f"`prediction_target` must be of a ViTEncoder with {self.count} or more blocks. Received: "
                f"{type(model.encoder).__name__} with {model.encoder.depth}."
            )
        return model.encoder.width

    def __call__(self, model, images, ids, training):
        layers = model.target.encoder.intermediates(images, training=training)[-self.count :]
        tokens = sum(standardize(x[:, model.encoder.num_prefix_tokens :], epsilon=1e-5) for x in layers) / self.count
        return tokens if ids is None else gather_tokens(tokens, ids)


class Pixels:
    """Pixels of the patches, without a momentum branch."""

    has_branch = False

    def width(self, model: SiameseIM) -> int:
        """Return pixels per patch times channels."""
        return model.encoder.patch_size**2 * model.encoder.channels

    def __call__(self, model, images, ids, training):
        patches = ops.cast(patchify(images, model.encoder.patch_size, model.encoder.data_format), "float32")
        return patches if ids is None else gather_tokens(patches, ids)


class NormalizedPixels(Pixels):
    """Pixels of the patches at zero mean and unit variance (MAE, arXiv 2111.06377, section 3)."""

    def __call__(self, model, images, ids, training):
        return normalize_pixels(super().__call__(model, images, ids, training))


def every_patch(tokens: Tensor) -> Tensor:
    """Return the tokens, for a loss at every patch."""
    return tokens


def mean_patch(tokens: Tensor) -> Tensor:
    """Return the mean token, (batch, 1, width) float32, for one loss per image."""
    return ops.mean(ops.cast(tokens, "float32"), axis=1, keepdims=True)


TARGET_VIEWS = {"other": OtherView(), "same": SameView()}
RELATIVE_POSITIONS = {"scale": PositionAndScale(), "no_scale": PositionOnly(), "none": OwnPosition()}
PREDICTION_TARGETS = {
    "features": MomentumFeatures(),
    "kept_features": KeptMomentumFeatures(),
    "pixels": Pixels(),
    "normalized_pixels": NormalizedPixels(),
    **{f"last_{count}_layers": LastLayers(count) for count in (2, 3, 4, 6, 8)},
}
SCOPES = {"dense": every_patch, "global": mean_patch}


@keras.saving.register_keras_serializable(package="keras_siamim")
class SiameseIMAblation(SiameseIM):
    """SiameseIM with other choices on any of its axes; the defaults are the paper's.

    Args:
        encoder: `ViTEncoder` or `ConvNeXtEncoder`, trained in place.
        target_view: `"other"` (view 2), `"same"` (view 1 itself, unmasked), or an object like `OtherView`.
        target_image_size: int or (height, width). Size that the target view is resized to: fewer, larger patches at
            the same positions, for a cheaper target. Defaults to None, no resizing.
        target_keep_ratio: float in (0, 1]. Share of the target's patches that are predicted in training, random ones.
            Defaults to 1.
        relative_positions: Input of the decoder about view 2's patches: `"scale"` (position and size in view 1),
            `"no_scale"` (position alone), `"none"` (position in view 2), or an object like `PositionAndScale`.
        prediction_target: `"features"` of the momentum branch, `"kept_features"` of a momentum branch that sees only
            the predicted patches, `"last_3_layers"` of the momentum encoder (2, 3, 4, 6 or 8), `"pixels"`,
            `"normalized_pixels"`, or an object like `MomentumFeatures`. The default of `negative_weight` holds for
            targets of the decoder's width.
        scope: `"dense"` (a loss at every patch), `"global"` (one loss of the mean patch), or weights of both, such as
            `{"dense": 1.0, "global": 0.5}`.
        **kwargs: Arguments of `SiameseIM`.

    Raises:
        ValueError: For an unknown name, a weight below 0, or sizes that do not fit.

    Example:
        >>> from keras_siamim import SiameseIMAblation, ViTEncoder
        >>> encoder = ViTEncoder(image_size=32, patch_size=8, width=24, depth=1, num_heads=3)
        >>> model = SiameseIMAblation(encoder, target_view="same", scope="global", decoder_width=32, decoder_heads=4)
        >>> model.batch_keys
        ('view_1', 'visible_ids')
    """

    def __init__(
        self,
        encoder: keras.Model,
        *,
        target_view: str | Callable = "other",
        target_image_size: Size | None = None,
        target_keep_ratio: float = 1.0,
        relative_positions: str | Callable = "scale",
        prediction_target: str | Callable = "features",
        scope: str | Mapping[str, float] = "dense",
        **kwargs,
    ):
        if not 0 < target_keep_ratio <= 1:
            raise ValueError(f"`target_keep_ratio` must be in (0, 1]. Received: {target_keep_ratio}.")
        if target_image_size is not None:
            target_image_size = height_and_width("target_image_size", target_image_size)
            checked_grid(*target_image_size, encoder.patch_size)
        # Set first: the constructor of `SiameseIM` builds layers whose shapes depend on them.
        self.target_image_size = target_image_size
        self.target_keep_ratio = target_keep_ratio
        self.target_view = choose(TARGET_VIEWS, "target_view", target_view)
        self.relative_positions = choose(RELATIVE_POSITIONS, "relative_positions", relative_positions)
        self.prediction_target = choose(PREDICTION_TARGETS, "prediction_target", prediction_target)
        self.scope = scope_weights(scope)
        self.batch_keys = (keys.VIEW_1, keys.VISIBLE_IDS, *self.target_view.batch_keys)
        self.seed_generator = keras.random.SeedGenerator() if target_keep_ratio < 1 else None
        super().__init__(encoder, **kwargs)

    @property
    def has_target_branch(self):
        return self.prediction_target.has_branch

    @property
    def target_width(self):
        return self.prediction_target.width(self)

    def select_target(self, batch, training):
        view, relative_affine = self.target_view(batch)
        if self.target_image_size is not None:
            view = ops.image.resize(view, self.target_image_size, antialias=True, data_format=self.encoder.data_format)
        target_ids = batch.get(keys.TARGET_IDS)
        if target_ids is None and training and self.seed_generator is not None:
            rows, columns = self.encoder.grid_of(view.shape)
            kept = max(1, round(self.target_keep_ratio * rows * columns))
            target_ids = random_patches(ops.shape(view)[0], rows * columns, kept, self.seed_generator)
        return view, relative_affine, target_ids

    def embed_positions(self, relative_affine, grid_1, grid_2):
        return self.relative_positions(relative_affine, grid_1, grid_2, self.decoder_width)

    def target_features(self, images, target_ids=None, training=False):
        return self.prediction_target(self, images, target_ids, training)

    def loss_terms(self, outputs):
        parts = [
            (weight, self.criterion(*(SCOPES[scope](outputs[name]) for name in ("prediction", "target"))))
            for scope, weight in self.scope.items()
        ]
        return {term: sum(part[term] * weight for weight, part in parts) for term in ("loss", *self.criterion.terms)}

    def check_values(self, batch):
        check_batch(batch, self.batch_keys, self.encoder, self.target_image_size)

    def get_config(self):
        return {
            **super().get_config(),
            "target_view": name_of(TARGET_VIEWS, self.target_view),
            "target_image_size": self.target_image_size and list(self.target_image_size),
            "target_keep_ratio": self.target_keep_ratio,
            "relative_positions": name_of(RELATIVE_POSITIONS, self.relative_positions),
            "prediction_target": name_of(PREDICTION_TARGETS, self.prediction_target),
            "scope": dict(self.scope),
        }


def choose(table: Mapping, argument: str, choice: Any) -> Any:
    """Return the entry of a table by its name, or an object that is none of a table's as it is.

    Raises:
        ValueError: If `choice` is neither a name in the table nor callable.
    """
    if isinstance(choice, dict) and "class_name" in choice:
        choice = keras.saving.deserialize_keras_object(choice)
    if callable(choice):
        return choice
    if not isinstance(choice, str) or choice not in table:
        raise ValueError(f"`{argument}` must be one of {', '.join(table)}. Received: {choice!r}.")
    return table[choice]


def name_of(table: Mapping, choice: Any) -> str | dict:
    """Return the name of an entry of a table, or the configuration of an object that is none of its entries."""
    for name, entry in table.items():
        if entry is choice:
            return name
    return keras.saving.serialize_keras_object(choice)


def random_patches(batch: int | Tensor, patches: int, kept: int, seed: keras.random.SeedGenerator) -> Tensor:
    """Return the ascending indices of `kept` random patches per image, (batch, kept) int32."""
    order = ops.argsort(keras.random.uniform((batch, patches), seed=seed), axis=1)
    return ops.sort(ops.cast(order[:, :kept], "int32"), axis=1)


def scope_weights(scope: str | Mapping[str, float]) -> dict[str, float]:
    """Return the weight of each scope, from the name of one or a dictionary of several.

    Args:
        scope: `"dense"`, `"global"`, or a dictionary from these names to weights of 0 or more, not all of them 0.

    Returns:
        Dictionary of the weights above 0.

    Raises:
        ValueError: For another name or weight.

    Example:
        >>> from keras_siamim.objectives.ablations import scope_weights
        >>> scope_weights("global")
        {'global': 1.0}
    """
    weights = {scope: 1.0} if isinstance(scope, str) else dict(scope)
    for name, weight in weights.items():
        choose(SCOPES, "scope", name)
        if not 0 <= weight < math.inf:
            raise ValueError(f"`scope` must be weights of 0 or more. Received: {scope!r}.")
    weights = {name: float(weight) for name, weight in weights.items() if weight > 0}
    if not weights:
        raise ValueError(f"`scope` must give a weight above 0 to one of {', '.join(SCOPES)}. Received: {scope!r}.")
    return weights
