"""Pure functions on tensors: position embeddings, patches and tokens."""

from keras_siamim.ops.cells import cells_to_map, map_to_cells
from keras_siamim.ops.positions import (
    interpolate_positions,
    relative_position_embedding,
    relative_positions,
    resize_positions,
    sincos_embedding,
    sincos_position_table,
)
from keras_siamim.ops.tokens import (
    gather_tokens,
    masked_patches,
    patchify,
    restore_tokens,
    standardize,
    unpatchify,
)

__all__ = [
    "cells_to_map",
    "gather_tokens",
    "interpolate_positions",
    "map_to_cells",
    "masked_patches",
    "patchify",
    "relative_position_embedding",
    "relative_positions",
    "resize_positions",
    "restore_tokens",
    "sincos_embedding",
    "sincos_position_table",
    "standardize",
    "unpatchify",
]
