"""ConvNeXt V2 encoders in timm's names (`convnextv2_*`)."""

import numbers
import re
from collections.abc import Collection

import numpy as np

from keras_siamim.backbones import CONVNEXT_SIZES, ConvNeXtEncoder
from keras_siamim.convert.names import NameTable, Slot, dense_names, norm_names, patch_embedding_names, to_torch
from keras_siamim.convert.report import assign
from keras_siamim.convert.shapes import require_weight
from keras_siamim.types import Size

_STEM = "stem.0.weight"
_BLOCK = re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.")
_MLP = re.compile(r".*\.mlp\.fc[12]\.weight")
# In timm, the MLPs of these sizes are 1x1 convolutions.
_CONVOLUTIONAL = [CONVNEXT_SIZES[name]["widths"] for name in ("atto", "femto", "pico", "nano")]
# Image size at which a file without one is built: that of ImageNet.
_IMAGE_SIZE = 224


def is_convnext(names: Collection[str]) -> bool:
    """Return True for the names of a ConvNeXt, of version 1 or 2.

    Args:
        names: Strings. All names of the file.

    Example:
        >>> is_convnext(["stem.0.weight", "stages.0.blocks.0.conv_dw.weight"])
        True
    """
    return _STEM in names and any(name.endswith(".conv_dw.weight") for name in names)


def convnext_names(encoder: ConvNeXtEncoder) -> NameTable:
    """Return the name table of a `ConvNeXtEncoder`.

    Args:
        encoder: Built `ConvNeXtEncoder`.

    Example:
        >>> encoder = ConvNeXtEncoder(image_size=16, stem=2, widths=(4, 8), depths=(1, 1))
        >>> [name for name in convnext_names(encoder) if name.endswith("weight")][2:4]
        ['stages.0.blocks.0.conv_dw.weight', 'stages.0.blocks.0.norm.weight']
    """
    table = {**patch_embedding_names(encoder.patch_embedding, "stem.0"), **norm_names(encoder.stem_norm, "stem.1")}
    for stage, blocks in enumerate(encoder.stages):
        name = f"stages.{stage}"
        if stage:
            table |= norm_names(encoder.transition_norms[stage - 1], f"{name}.downsample.0")
            table |= patch_embedding_names(encoder.transitions[stage - 1], f"{name}.downsample.1")
        for index, block in enumerate(blocks):
            table |= _block_names(block, f"{name}.blocks.{index}")
    return table


def _block_names(block, name):
    return {
        f"{name}.conv_dw.weight": Slot(block.depthwise.kernel, "depthwise"),
        f"{name}.conv_dw.bias": Slot(block.depthwise.bias),
        **norm_names(block.norm, f"{name}.norm"),
        **dense_names(block.expand, f"{name}.mlp.fc1"),
        f"{name}.mlp.grn.weight": Slot(block.response_norm.scale),
        f"{name}.mlp.grn.bias": Slot(block.response_norm.offset),
        **dense_names(block.reduce, f"{name}.mlp.fc2"),
    }


def convnext_weights(encoder: ConvNeXtEncoder) -> dict[str, np.ndarray]:
    """Return the weights of a `ConvNeXtEncoder` in timm's names and layouts.

    Args:
        encoder: Built `ConvNeXtEncoder`.

    Returns:
        Dictionary of float32 arrays by name. For the sizes whose MLPs are convolutions in timm (Atto to Nano), the
        kernels of the MLPs are (out, in, 1, 1), otherwise (out, in).

    Example:
        >>> encoder = ConvNeXtEncoder(image_size=16, stem=2, widths=(4, 8), depths=(1, 1))
        >>> convnext_weights(encoder)["stages.0.blocks.0.mlp.fc1.weight"].shape
        (16, 4)
    """
    arrays = {name: np.asarray(to_torch(slot), "float32") for name, slot in convnext_names(encoder).items()}
    if encoder.widths in _CONVOLUTIONAL:
        arrays = {name: array[:, :, None, None] if _MLP.fullmatch(name) else array for name, array in arrays.items()}
    return arrays


def build_convnext(
    weights: dict[str, np.ndarray], image_size: Size | None = None
) -> tuple[ConvNeXtEncoder, tuple[str, ...]]:
    """Build a `ConvNeXtEncoder` from weights by timm's name; a head is left out.

    Args:
        weights: Dictionary of arrays.
        image_size: Integer or (height, width) in pixels. Defaults to 224.

    Returns:
        Tuple of the encoder and the names that it used.

    Raises:
        ValueError: If the weights are not those of a ConvNeXt V2.
    """
    unknown = sorted(name for name in weights if not re.match(r"(stem|stages|head)\.", name))
    version_1 = sorted(name for name in weights if name.endswith(".gamma"))
    if unknown or version_1:
        raise ValueError(
            "`path` must hold a plain ConvNeXt V2. Received: a file with the unknown weights "
            f"{(unknown + version_1)[:12]}{' (LayerScale of ConvNeXt V1)' if version_1 else ''}."
        )
    found = [(int(match[1]), int(match[2])) for name in weights if (match := _BLOCK.match(name))]
    stages = range(1 + max(stage for stage, _ in found))
    depths = [1 + max((block for other, block in found if other == stage), default=-1) for stage in stages]
    stem = require_weight(weights, _STEM, (4,))
    encoder = ConvNeXtEncoder(
        image_size=_IMAGE_SIZE if image_size is None else _pair(image_size),
        stem=stem.shape[-1],
        widths=[require_weight(weights, f"stages.{stage}.blocks.0.norm.weight", (1,)).size for stage in stages],
        depths=depths,
        channels=stem.shape[1],
    )
    used, _ = assign(convnext_names(encoder), {name: _dense(name, array) for name, array in weights.items()})
    return encoder, used


def _dense(name, array):
    """Return the kernel of a dense layer that is stored as that of a 1x1 convolution."""
    return array[:, :, 0, 0] if _MLP.fullmatch(name) and array.shape[2:] == (1, 1) else array


def _pair(size):
    return (size, size) if isinstance(size, numbers.Integral) else tuple(size)
