"""Pure functions on tensors."""

from keras_siamim.ops.positions import (
    interpolate_positions,
    relative_position_embedding,
    relative_positions,
    resize_positions,
    sincos_embedding,
    sincos_position_table,
)
from keras_siamim.ops.tokens import gather_tokens, patchify, standardize, unpatchify

__all__ = [
    "gather_tokens",
    "interpolate_positions",
    "patchify",
    "relative_position_embedding",
    "relative_positions",
    "resize_positions",
    "sincos_embedding",
    "sincos_position_table",
    "standardize",
    "unpatchify",
]
