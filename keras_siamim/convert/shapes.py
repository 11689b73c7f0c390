"""What the shapes of a weight file under timm's names tell of its model."""

import re

from keras_siamim.backbones import VIT_SIZES

# MoCo v3's Small has twice the usual heads (arXiv 2104.02057).
MOCO_V3_HEADS = {384: 12}
HEADS_BY_WIDTH = {size["width"]: size["num_heads"] for size in VIT_SIZES.values()}


def weight_of(weights, name, ranks):
    """One weight of a file.

    Args:
        weights: Arrays by name.
        name: Its name.
        ranks: Ranks that it may have.

    Raises:
        ValueError: If the file lacks it, or has it in another rank.
    """
    if name not in weights:
        raise ValueError(f"The file is of no known model: it lacks {name}.")
    if weights[name].ndim not in ranks:
        raise ValueError(f"{name} must have the rank {ranks[0]}. Received: the shape {weights[name].shape}.")
    return weights[name]


def architecture(weights, num_heads):
    """Constructor arguments of a `ViTEncoder`.

    Raises:
        ValueError: If `num_heads` is None and none is usual at the width.
    """
    width, channels, patch_size, _ = weight_of(weights, "patch_embed.proj.weight", (4,)).shape
    num_heads = num_heads if num_heads is not None else HEADS_BY_WIDTH.get(width)
    if num_heads is None:
        raise ValueError(f"`num_heads` must be given: no file tells it, and none is usual at a width of {width}.")
    return {
        "patch_size": patch_size,
        "width": width,
        "depth": depth(weights, "blocks"),
        "num_heads": num_heads,
        "mlp_ratio": ratio(weights, "blocks"),
        "layer_scale_init": 1.0 if "blocks.0.ls1.gamma" in weights else None,
        "channels": channels,
    }


def pixels(weights, grid):
    """Image size (height, width) of a patch grid (rows, columns)."""
    patch_size = weight_of(weights, "patch_embed.proj.weight", (4,)).shape[-1]
    return tuple(side * patch_size for side in grid)


def depth(weights, blocks):
    """Number of blocks below the name `blocks`."""
    return 1 + max((int(m[1]) for name in weights if (m := re.match(rf"{blocks}\.(\d+)\.", name))), default=-1)


def ratio(weights, blocks):
    """MLP ratio of the blocks below the name `blocks`."""
    hidden, width = weight_of(weights, f"{blocks}.0.mlp.fc1.weight", (2,)).shape
    return hidden // width if hidden % width == 0 else hidden / width
