"""Hugging Face's names for a ViT (`ViTModel`, `ViTMAEModel`, with or without a head), from and to timm's.

The two differ in names only, and in query, key and value, which timm fuses.
"""

import re

import numpy as np

_OUTSIDE = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
_IN_BLOCK = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_QKV = tuple(f"attention.attention.{part}" for part in ("query", "key", "value"))
_PREFIX = "vit."


def is_hugging_face(weights):
    """Whether the names are Hugging Face's."""
    return "embeddings.cls_token" in {name.removeprefix(_PREFIX) for name in weights}


def _names(timm_name):
    """Hugging Face's name of one of timm's, or its three names; None where it has none."""
    stem, _, kind = timm_name.rpartition(".")
    if timm_name in _OUTSIDE:
        return (_OUTSIDE[timm_name],)
    if stem in _OUTSIDE:
        return (f"{_OUTSIDE[stem]}.{kind}",)
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", stem)
    if block and block[2] == "attn.qkv":
        return tuple(f"encoder.layer.{block[1]}.{part}.{kind}" for part in _QKV)
    if block and block[2] in _IN_BLOCK:
        return (f"encoder.layer.{block[1]}.{_IN_BLOCK[block[2]]}.{kind}",)
    return None


def to_timm(weights):
    """Rename to timm's names.

    Args:
        weights: Arrays by Hugging Face's name.

    Returns:
        Arrays by timm's name, and for each the names that it came from. Names that mean nothing to a ViT encoder are
        kept as they are; a classifier is called `head`.
    """
    prefixed = {name.removeprefix(_PREFIX): name for name in weights}
    depth = 1 + max((int(m[1]) for name in prefixed if (m := re.match(r"encoder\.layer\.(\d+)\.", name))), default=-1)
    stems = [*_OUTSIDE, *(f"blocks.{i}.{part}" for i in range(depth) for part in (*_IN_BLOCK, "attn.qkv"))]
    renamed, origins = {}, {}
    for timm_name in [name for stem in stems for name in (stem, f"{stem}.weight", f"{stem}.bias")]:
        theirs = _names(timm_name)
        if theirs and all(name in prefixed for name in theirs):
            origins[timm_name] = tuple(prefixed[name] for name in theirs)
            arrays = [weights[name] for name in origins[timm_name]]
            renamed[timm_name] = np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
    taken = {name for names in origins.values() for name in names}
    for name in weights:
        if name not in taken:
            timm_name = re.sub(r"^classifier\.", "head.", name)
            renamed[timm_name], origins[timm_name] = weights[name], (name,)
    return renamed, origins


def from_timm(weights):
    """Rename to Hugging Face's names.

    Args:
        weights: Arrays by timm's name.

    Raises:
        ValueError: For a weight that Hugging Face's ViT doesn't have (LayerScale).
    """
    renamed = {}
    for timm_name, array in weights.items():
        theirs = _names(timm_name)
        if theirs is None:
            raise ValueError(f"Hugging Face's ViT has no weight like {timm_name!r}.")
        parts = np.split(array, len(theirs)) if len(theirs) > 1 else [array]
        renamed |= dict(zip(theirs, parts, strict=True))
    return renamed
