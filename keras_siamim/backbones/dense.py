"""Weights of a pre-trained encoder for the backbones of dense tasks."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_siamim.backbones.vit import ViTEncoder
from keras_siamim.ops import sincos_position_table


def check_encoder(encoder: Any) -> None:
    """Raise a ValueError unless `encoder` is a `ViTEncoder`.

    Args:
        encoder: Value of the argument `encoder`.

    Example:
        >>> check_encoder(ViTEncoder(image_size=16, patch_size=8, width=8, depth=1, num_heads=2))
    """
    if not isinstance(encoder, ViTEncoder):
        raise ValueError(
            "`encoder` must be a ViTEncoder or a ConvNeXtEncoder: dense training needs its inner blocks, which a "
            "SavedModel does not have. "
            f"Received: {type(encoder).__name__}."
        )


def position_table(encoder: ViTEncoder) -> np.ndarray:
    """Return the positions of an encoder at its own grid as the initial value of a trainable table.

    Args:
        encoder: `ViTEncoder` with learned or sine-cosine positions.

    Returns:
        NumPy array (1 + rows * columns, width) float32. The first row is the class token's, zero for sine-cosine
        positions.

    Example:
        >>> position_table(ViTEncoder(image_size=16, patch_size=8, width=8, depth=1, num_heads=2)).shape
        (5, 8)
    """
    if encoder.learned_positions is not None:
        return ops.convert_to_numpy(encoder.learned_positions.embedding)[0]
    patches = sincos_position_table(encoder.grid, encoder.width, encoder.axis_order)
    return np.concatenate([np.zeros((1, encoder.width), "float32"), patches])


def copy_blocks(encoder: ViTEncoder, backbone: keras.Layer) -> None:
    """Copy patch embedding and blocks of an encoder to a backbone; the backbone's other weights keep their values.

    Args:
        encoder: `ViTEncoder`, the source.
        backbone: Built layer with the same sizes and a `patch_embedding` and `blocks` of its own.
    """
    backbone.patch_embedding.set_weights(encoder.patch_embedding.get_weights())
    for block, source in zip(backbone.blocks, encoder.blocks, strict=True):
        for name in ("norm_1", "norm_2", "mlp", "scale_1", "scale_2"):
            if getattr(source, name) is not None:
                getattr(block, name).set_weights(getattr(source, name).get_weights())
        # The attention of a backbone may have relative positions, which an encoder lacks.
        for name in ("qkv", "projection"):
            getattr(block.attention, name).set_weights(getattr(source.attention, name).get_weights())
