"""Our encoders into files that other libraries take."""

from pathlib import Path

import numpy as np

from keras_siamim.convert import hugging_face
from keras_siamim.convert.files import write_safetensors
from keras_siamim.convert.names import encoder_names, to_torch
from keras_siamim.ops import sincos_position_table

CONVENTIONS = ("timm", "hugging_face")


def encoder_weights(encoder, convention="timm"):
    """Weights of an encoder under others' names and in their layouts, positions included.

    Args:
        encoder: A `ViTEncoder`.
        convention: `"timm"` (`VisionTransformer`; detectron2's ViTDet and MMSegmentation's ViTs read it too), or
            `"hugging_face"` (`ViTModel`). An encoder without final norm gives no `norm` (`layernorm`): there, put an
            identity in its place.

    Returns:
        float32 NumPy arrays by name.

    Raises:
        ValueError: If the convention is unknown, or has no name for one of the weights.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"`convention` must be one of {CONVENTIONS}. Received: {convention!r}.")
    weights = {
        name: np.asarray(to_torch(slot, encoder.channels), "float32") for name, slot in encoder_names(encoder).items()
    }
    if "pos_embed" not in weights:
        table = sincos_position_table(encoder.grid, encoder.width, encoder.axis_order)
        weights["pos_embed"] = np.concatenate([np.zeros((1, encoder.width), "float32"), table])[None]
    return weights if convention == "timm" else hugging_face.from_timm(weights)


def save_encoder(encoder, path, convention="timm"):
    """Write an encoder as a safetensors file for other libraries; `load_encoder` reads it back exactly.

    Args:
        encoder: A `ViTEncoder`.
        path: The file to write, `.safetensors`; not overwritten.
        convention: See `encoder_weights`.

    Raises:
        ValueError: If the file exists or is named otherwise, or as `encoder_weights`.
    """
    path = Path(path)
    if path.suffix != ".safetensors" or path.exists():
        raise ValueError(f"`path` must end in .safetensors and not exist yet. Received: {path}.")
    arrays = encoder_weights(encoder, convention)
    metadata = {"num_heads": str(encoder.num_heads), "patch_size": str(encoder.patch_size)}
    write_safetensors(path, arrays, metadata)
