"""Names of a weight file outside the encoder: ignorable ones, and those of other architectures."""

import re
from collections.abc import Collection, Iterable

# Heads, decoders and projectors of pre-training, and counters. `_select_branch` has put names of the other branch in
# parentheses.
IGNORABLE = re.compile(
    r"""
    \(?(mm_|base_encoder\.|momentum_encoder\.)?
    (
        mask_token | embeddings\.mask_token | embeddings\.position_ids |
        masked_embed | (head|heads|fc|fc_norm|classifier|pooler|linear_head|lm_head)\..+ |
        (decoder|decoder_\w+|projector|projector_\w+|predictor|predictor_\w+|projection_head|student_norm)(\..+)? |
        .*num_batches_tracked | queue\w* | logit_scale
    )\)?
    """,
    re.VERBOSE,
)
# Layers after the encoder that a classifier computes with.
HEAD = re.compile(r"(head|heads|fc|fc_norm|classifier|pooler|linear_head)\..+")
# The complete other branch of a program with two.
OTHER_BRANCH = re.compile(
    r"\(?(mm_|base_encoder\.|momentum_encoder\.).+|\((cls_token|patch_embed|pos_embed|blocks|norm)\b.*\)"
)
# Features of other architectures by patterns of their names.
OTHER_FEATURES = {
    r"reg_token|register_token|storage_token": "register tokens",
    r"dist_token|head_dist|distillation": "a distillation token and its head",
    r"det_token|detection_token": "detection tokens",
    r"rope|rotary|inv_freq|freqs|periods": "rotary positions",
    r"rel_pos|relative_position": "relative positions",
    r"pre_logits": "a layer before the classifier",
    r"norm_pre|ln_pre|pre_layernorm|pre_norm": "a norm before the first block",
    r"[qk]_norm|q_bias|v_bias": "another attention variant",
    r"mlp\.(w12|w3|w1|w2|gate|norm|fc1_[gx])|gate_proj|up_proj": "a gated MLP",
    r"stem|patch_embed(dings)?\.(backbone|proj\.\d)": "a convolutional stem",
    r"attn_pool": "attention pooling",
    r"gamma_\d|layer_scale|lambda1": "LayerScale under another name",
}


def reject_unknown(names: Iterable[str], used: Collection[str], head: bool = False) -> None:
    """Reject a file with weights that are neither used nor ignorable.

    Args:
        names: Strings. All names of the file.
        used: Strings. Names that set a weight of the model.
        head: Boolean. True for a classifier, which needs all layers of its head. Defaults to False.

    Raises:
        ValueError: With the names of such weights and, where known, their architecture's feature.

    Example:
        >>> reject_unknown(["cls_token", "head.bias"], used=["cls_token"])
    """
    _reject([name for name in names if name not in used and (not is_ignorable(name) or (head and is_head(name)))])


def reject_outside(names: Iterable[str], prefix: str) -> None:
    """Reject a file with parts of an encoder outside its prefix, such as `rope.periods` next to `encoder.cls_token`.

    Args:
        names: Strings. Names that do not begin with the encoder's prefix.
        prefix: String. The encoder's prefix.

    Raises:
        ValueError: As for `reject_unknown`.

    Example:
        >>> reject_outside(["text.rope.periods"], prefix="image.encoder.")
    """
    steps = prefix.split(".")
    parents = [".".join(steps[:count]) + "." if count else "" for count in range(len(steps))]
    first: dict[str, str] = {}
    for parent in parents:  # the longest matching parent wins
        first |= {name: name.removeprefix(parent).split(".")[0] for name in names if name.startswith(parent)}
    _reject([name for name, step in first.items() if any(re.search(pattern, step) for pattern in OTHER_FEATURES)])


def _reject(unknown):
    if unknown:
        found = {part for name in unknown for pattern, part in OTHER_FEATURES.items() if re.search(pattern, name)}
        listed = sorted(name.strip("()") for name in unknown)[:12]
        features = f" ({', '.join(sorted(found))})" if found else ""
        raise ValueError(f"`path` must hold a plain ViT. Received: a file with the unknown weights {listed}{features}.")


def is_head(name: str) -> bool:
    """Return True for a name of a classifier's layer after the encoder.

    Args:
        name: String. A name of the file.

    Example:
        >>> is_head("head.weight")
        True
    """
    return bool(HEAD.fullmatch(name))


def is_ignorable(name: str) -> bool:
    """Return True for a name that the encoder's output does not depend on.

    Args:
        name: String. A name of the file.

    Example:
        >>> is_ignorable("decoder_pred.bias")
        True
    """
    return bool(IGNORABLE.fullmatch(name) or OTHER_BRANCH.fullmatch(name))
