"""Hugging Face's weight names of a ViT (`ViTModel`, `ViTMAEModel`, with or without a head), from and to timm's.

Both conventions have the same layouts. timm stores query, key and value as one weight; Hugging Face stores three.
"""

import re

import numpy as np

_STEM_NAMES = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
_BLOCK_NAMES = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_QKV = tuple(f"attention.attention.{part}" for part in ("query", "key", "value"))
_PREFIX = "vit."


def is_hugging_face(weights: dict[str, np.ndarray]) -> bool:
    """Return True for weights under Hugging Face's names.

    Args:
        weights: Dictionary of arrays by name.

    Example:
        >>> is_hugging_face({"vit.embeddings.cls_token": np.zeros((1, 1, 8))})
        True
    """
    return "embeddings.cls_token" in {name.removeprefix(_PREFIX) for name in weights}


def _names(timm_name):
    """Return a tuple of Hugging Face's names for one of timm's: one name, three for fused weights, or None."""
    stem, _, kind = timm_name.rpartition(".")
    if timm_name in _STEM_NAMES:
        return (_STEM_NAMES[timm_name],)
    if stem in _STEM_NAMES:
        return (f"{_STEM_NAMES[stem]}.{kind}",)
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", stem)
    if block and block[2] == "attn.qkv":
        return tuple(f"encoder.layer.{block[1]}.{part}.{kind}" for part in _QKV)
    if block and block[2] in _BLOCK_NAMES:
        return (f"encoder.layer.{block[1]}.{_BLOCK_NAMES[block[2]]}.{kind}",)
    return None


def to_timm(weights: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
    """Rename weights from Hugging Face's names to timm's.

    Args:
        weights: Dictionary of arrays by Hugging Face's name.

    Returns:
        Tuple of two dictionaries: arrays by timm's name, and the original names by timm's name. A classifier is
        renamed to `head`. All other names outside a ViT encoder are kept.

    Example:
        >>> to_timm({"classifier.bias": np.zeros(2)})[1]
        {'head.bias': ('classifier.bias',)}
    """
    prefixed = {name.removeprefix(_PREFIX): name for name in weights}
    depth = 1 + max((int(m[1]) for name in prefixed if (m := re.match(r"encoder\.layer\.(\d+)\.", name))), default=-1)
    stems = [*_STEM_NAMES, *(f"blocks.{i}.{part}" for i in range(depth) for part in (*_BLOCK_NAMES, "attn.qkv"))]
    renamed, origins = {}, {}
    for timm_name in [name for stem in stems for name in (stem, f"{stem}.weight", f"{stem}.bias")]:
        names = _names(timm_name)
        if names and all(name in prefixed for name in names):
            origins[timm_name] = tuple(prefixed[name] for name in names)
            arrays = [weights[name] for name in origins[timm_name]]
            renamed[timm_name] = np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
    converted = {name for names in origins.values() for name in names}
    for name in weights:
        if name not in converted:
            timm_name = re.sub(r"^classifier\.", "head.", name)
            renamed[timm_name], origins[timm_name] = weights[name], (name,)
    return renamed, origins


def from_timm(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename weights from timm's names to Hugging Face's.

    Args:
        weights: Dictionary of arrays by timm's name.

    Returns:
        Dictionary of arrays by Hugging Face's name.

    Raises:
        ValueError: If Hugging Face's ViT has no such weight (LayerScale).

    Example:
        >>> list(from_timm({"blocks.0.attn.proj.bias": np.zeros(8)}))
        ['encoder.layer.0.attention.output.dense.bias']
    """
    renamed: dict[str, np.ndarray] = {}
    for timm_name, array in weights.items():
        names = _names(timm_name)
        if names is None:
            raise ValueError(
                f"`weights` must be those of Hugging Face's ViT. Received: {timm_name!r}, which that model lacks."
            )
        arrays = np.split(array, len(names)) if len(names) > 1 else [array]
        renamed |= dict(zip(names, arrays, strict=True))
    return renamed
