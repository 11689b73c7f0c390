"""Encoders saved for other libraries."""

from pathlib import Path

import numpy as np

from keras_siamim.backbones import ConvNeXtEncoder, ViTEncoder
from keras_siamim.convert import hugging_face
from keras_siamim.convert.convnext import convnext_weights
from keras_siamim.convert.files import write_safetensors
from keras_siamim.convert.names import encoder_names, to_torch
from keras_siamim.ops import sincos_position_table
from keras_siamim.types import PathLike

CONVENTIONS = ("timm", "hugging_face")


def encoder_weights(encoder: ViTEncoder | ConvNeXtEncoder, convention: str = "timm") -> dict[str, np.ndarray]:
    """Return the weights of an encoder, with positions, in another library's names and layouts.

    An encoder without a final norm has no `norm` (`layernorm`) weights: replace that layer by an identity in the other
    library.

    Args:
        encoder: `ViTEncoder` or `ConvNeXtEncoder`.
        convention: `"timm"` (`VisionTransformer`, also read by detectron2's ViTDet and MMSegmentation's ViTs, and
            `convnextv2_*`) or `"hugging_face"` (`ViTModel`). Defaults to `"timm"`.

    Returns:
        Dictionary of float32 arrays by name.

    Raises:
        ValueError: If the convention is unknown, or lacks one of the weights.

    Example:
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=1, num_heads=1)
        >>> encoder_weights(encoder)["patch_embed.proj.weight"].shape
        (8, 3, 8, 8)
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"`convention` must be one of {CONVENTIONS}. Received: {convention!r}.")
    if isinstance(encoder, ConvNeXtEncoder):
        if convention != "timm":
            raise ValueError(f"`convention` must be 'timm' for a ConvNeXtEncoder. Received: {convention!r}.")
        return convnext_weights(encoder)
    weights = {name: np.asarray(to_torch(slot), "float32") for name, slot in encoder_names(encoder).items()}
    if "pos_embed" not in weights:
        table = sincos_position_table(encoder.grid, encoder.width, encoder.axis_order)
        weights["pos_embed"] = np.concatenate([np.zeros((1, encoder.width), "float32"), table])[None]
    return weights if convention == "timm" else hugging_face.from_timm(weights)


def save_encoder(encoder: ViTEncoder | ConvNeXtEncoder, path: PathLike, convention: str = "timm") -> None:
    """Save an encoder as a safetensors file for other libraries. Needs the package `safetensors`.

    `load_encoder` restores the encoder exactly.

    Args:
        encoder: `ViTEncoder` or `ConvNeXtEncoder`.
        path: String or path. The new file; it must end in `.safetensors`.
        convention: `"timm"` or `"hugging_face"`, see `encoder_weights`. Defaults to `"timm"`.

    Raises:
        ValueError: If the file exists or has another ending, or as for `encoder_weights`.
        ImportError: If `safetensors` is missing.
    """
    path = Path(path)
    if path.suffix != ".safetensors" or path.exists():
        raise ValueError(f"`path` must end in .safetensors and not exist yet. Received: {path}.")
    arrays = encoder_weights(encoder, convention)
    metadata = {"patch_size": str(encoder.patch_size)}
    if isinstance(encoder, ViTEncoder):
        metadata["num_heads"] = str(encoder.num_heads)
    write_safetensors(path, arrays, metadata)
