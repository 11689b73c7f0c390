"""Architecture of a model from the shapes in its weight file, under timm's names."""

import re
from typing import Any

import numpy as np

from keras_siamim.backbones import VIT_SIZES

# MoCo v3's ViT-Small has twice the usual number of heads (arXiv 2104.02057).
MOCO_V3_HEADS = {384: 12}
HEADS_BY_WIDTH = {size["width"]: size["num_heads"] for size in VIT_SIZES.values()}


def require_weight(weights: dict[str, np.ndarray], name: str, ranks: tuple[int, ...]) -> np.ndarray:
    """Return a weight of one of the allowed ranks.

    Args:
        weights: Dictionary of arrays by name.
        name: String. Name of the weight.
        ranks: Tuple of integers. The allowed ranks.

    Raises:
        ValueError: If the weight is missing or has another rank.

    Example:
        >>> require_weight({"cls_token": np.zeros((1, 1, 8))}, "cls_token", (3,)).shape
        (1, 1, 8)
    """
    if name not in weights:
        raise ValueError(f"`path` must hold a known model. Received: a file without {name}.")
    if weights[name].ndim not in ranks:
        raise ValueError(
            f"`path` must hold {name} with the rank {ranks[0]}. Received: the shape {weights[name].shape}."
        )
    return weights[name]


def architecture(weights: dict[str, np.ndarray], num_heads: int | None) -> dict[str, Any]:
    """Return the `ViTEncoder` arguments for a file's shapes.

    Args:
        weights: Dictionary of arrays by timm's name.
        num_heads: Integer; None for the usual number of heads for the width.

    Returns:
        Dictionary of constructor arguments.

    Raises:
        ValueError: If a weight is missing, or if `num_heads` is None and no usual number is known.

    Example:
        >>> shapes = {"patch_embed.proj.weight": (192, 3, 16, 16), "blocks.0.mlp.fc1.weight": (768, 192)}
        >>> architecture({name: np.zeros(shape) for name, shape in shapes.items()}, None)["num_heads"]
        3
    """
    width, channels, patch_size, _ = require_weight(weights, "patch_embed.proj.weight", (4,)).shape
    num_heads = num_heads if num_heads is not None else HEADS_BY_WIDTH.get(width)
    if num_heads is None:
        raise ValueError(
            f"`num_heads` must be given for a width of {width}, which has no usual number of heads. Received: None."
        )
    return {
        "patch_size": patch_size,
        "width": width,
        "depth": count_blocks(weights, "blocks"),
        "num_heads": num_heads,
        "mlp_ratio": mlp_ratio_of(weights, "blocks"),
        "layer_scale_init": 1.0 if "blocks.0.ls1.gamma" in weights else None,
        "channels": channels,
    }


def image_size_of(weights: dict[str, np.ndarray], grid: tuple[int, int]) -> tuple[int, int]:
    """Return the image size (height, width) in pixels for a patch grid.

    Args:
        weights: Dictionary of arrays by timm's name.
        grid: (rows, columns) of the patches.

    Example:
        >>> image_size_of({"patch_embed.proj.weight": np.zeros((8, 3, 16, 16))}, (14, 14))
        (224, 224)
    """
    patch_size = require_weight(weights, "patch_embed.proj.weight", (4,)).shape[-1]
    return grid[0] * patch_size, grid[1] * patch_size


def count_blocks(weights: dict[str, np.ndarray], blocks: str) -> int:
    """Return the number of transformer blocks under a name.

    Args:
        weights: Dictionary of arrays by timm's name.
        blocks: String. Name of the list of blocks.

    Example:
        >>> count_blocks({"blocks.0.norm1.bias": np.zeros(8), "blocks.1.norm1.bias": np.zeros(8)}, "blocks")
        2
    """
    return 1 + max((int(m[1]) for name in weights if (m := re.match(rf"{blocks}\.(\d+)\.", name))), default=-1)


def mlp_ratio_of(weights: dict[str, np.ndarray], blocks: str) -> float:
    """Return the MLP ratio of the transformer blocks under a name.

    Args:
        weights: Dictionary of arrays by timm's name.
        blocks: String. Name of the list of blocks.

    Returns:
        Hidden width over width: an integer where it divides evenly, else a float.

    Example:
        >>> mlp_ratio_of({"blocks.0.mlp.fc1.weight": np.zeros((32, 8))}, "blocks")
        4
    """
    hidden, width = require_weight(weights, f"{blocks}.0.mlp.fc1.weight", (2,)).shape
    return hidden // width if hidden % width == 0 else hidden / width
