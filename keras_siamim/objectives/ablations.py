"""The choices within SiameseIM, each a literal table from its names to what they do.

They are the axes of the paper's comparison (arXiv 2206.01204, section 4.3) between masked image modeling and instance
discrimination.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_siamim import batch as keys
from keras_siamim.losses import normalize_pixels
from keras_siamim.ops import (
    gather_tokens,
    patchify,
    relative_position_embedding,
    sincos_position_table,
    standardize,
)


def choose(table, argument, name):
    """The entry `name` of a table of choices.

    Raises:
        ValueError: Naming `argument` and its choices, if there is no such entry.
    """
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"`{argument}` must be one of {', '.join(table)}. Received: {name!r}.")
    return table[name]


# Which view the target branch sees: each takes a batch and gives (images, relative_affine); beside it, the keys read.


def other_view(batch):
    """View 2, another augmentation of the image."""
    return batch[keys.VIEW_2], batch[keys.RELATIVE_AFFINE]


def same_view(batch):
    """View 1 itself, whole; its relation to itself is the identity."""
    identity = ops.convert_to_tensor(np.array([[0, 0, 1, 1]], "float32"))
    return batch[keys.VIEW_1], ops.broadcast_to(identity, (ops.shape(batch[keys.VIEW_1])[0], 4))


TARGET_VIEWS = {"other": other_view, "same": same_view}
TARGET_VIEW_KEYS = {"other": (keys.VIEW_2, keys.RELATIVE_AFFINE), "same": ()}


def random_patches(batch, patches, kept, seed):
    """Ascending numbers of `kept` random patches, (batch, kept) int32; `seed` is a `keras.random.SeedGenerator`."""
    order = ops.argsort(keras.random.uniform((batch, patches), seed=seed), axis=1)
    return ops.sort(ops.cast(order[:, :kept], "int32"), axis=1)


# How the decoder is told where the patches of view 2 are: each takes (relative_affine, grid_1, grid_2, width) and gives
# (batch, patches of view 2, channels) float32.


def place_and_scale(relative_affine, grid_1, grid_2, width):
    """Where they lie in view 1, and how large they are there: 2 * width channels."""
    return relative_position_embedding(relative_affine, grid_1, grid_2, width)


def place(relative_affine, grid_1, grid_2, width):
    """Where they lie in view 1: `width` channels."""
    return relative_position_embedding(relative_affine, grid_1, grid_2, width, with_scale=False)


def own_place(relative_affine, grid_1, grid_2, width):
    """Where they lie in view 2, whatever its relation to view 1: `width` channels."""
    table = ops.convert_to_tensor(sincos_position_table(grid_2, width))[None]
    return ops.broadcast_to(table, (ops.shape(relative_affine)[0], grid_2[0] * grid_2[1], width))


RELATIVE_POSITIONS = {"scale": place_and_scale, "no_scale": place, "none": own_place}
POSITION_CHANNELS = {"scale": 2, "no_scale": 1, "none": 1}  # times the decoder's width


# What is predicted. `width` gives the channels of a target; `__call__` the targets (batch, patches, width) float32 of
# view 2, at the patches `ids` (batch, asked) int32 or at all.


class MomentumFeatures:
    """Tokens of the momentum branch over the whole view, at zero mean and unit variance over their channels."""

    has_branch = True

    def width(self, model):
        """The decoder's."""
        return model.decoder_width

    def __call__(self, model, images, ids, training):
        """See above."""
        tokens = model.target(images, training=training)[:, 1:]
        return standardize(tokens if ids is None else gather_tokens(tokens, ids), epsilon=1e-5)


class KeptMomentumFeatures(MomentumFeatures):
    """Tokens of a momentum branch that sees nothing but the patches asked for: cheaper, with less context."""

    def __call__(self, model, images, ids, training):
        """See above."""
        return standardize(model.target(images, ids, training=training)[:, 1:], epsilon=1e-5)


class Pixels:
    """The pixels of the patches as they come."""

    has_branch = False

    def width(self, model):
        """Pixels of a patch times channels."""
        return model.encoder.patch_size**2 * model.encoder.channels

    def __call__(self, model, images, ids, training):
        """See above."""
        patches = ops.cast(patchify(images, model.encoder.patch_size, model.encoder.data_format), "float32")
        return patches if ids is None else gather_tokens(patches, ids)


class NormalizedPixels(Pixels):
    """The pixels of the patches at zero mean and unit variance (MAE, arXiv 2111.06377, section 3)."""

    def __call__(self, model, images, ids, training):
        """See above."""
        return normalize_pixels(super().__call__(model, images, ids, training))


PREDICTION_TARGETS = {
    "features": MomentumFeatures(),
    "kept_features": KeptMomentumFeatures(),
    "pixels": Pixels(),
    "normalized_pixels": NormalizedPixels(),
}


# Where prediction and target are compared: functions of (batch, patches, width).


def every_patch(tokens):
    """The tokens themselves."""
    return tokens


def whole_image(tokens):
    """The mean token, (batch, 1, width) float32."""
    return ops.mean(ops.cast(tokens, "float32"), axis=1, keepdims=True)


SCOPES = {"dense": every_patch, "global": whole_image}


def scope_weights(scope):
    """Weights by scope, from the name of one or a dictionary of several.

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
            raise ValueError(f"Weights in `scope` must be 0 or more. Received: {scope!r}.")
    weights = {name: float(weight) for name, weight in weights.items() if weight > 0}
    if not weights:
        raise ValueError(f"`scope` must give a weight above 0 to one of {', '.join(SCOPES)}. Received: {scope!r}.")
    return weights
