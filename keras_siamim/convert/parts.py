"""Names in weight files: which may be skipped, and what the others belong to."""

import re

# Beside the encoder: heads, decoders and projectors of pre-training, counters. Names after `_select_branch`, which puts
# those of the other branch in parentheses.
HARMLESS = re.compile(
    r"""
    \(?(mm_|base_encoder\.|momentum_encoder\.)?
    (
        mask_token | embeddings\.mask_token | embeddings\.position_ids |
        (head|heads|fc|fc_norm|classifier|pooler|linear_head|lm_head)\..+ |
        (decoder|decoder_\w+|projector|projector_\w+|predictor|predictor_\w+|projection_head|student_norm)(\..+)? |
        .*num_batches_tracked | queue\w* | logit_scale
    )\)?
    """,
    re.VERBOSE,
)
# The whole other branch of programs that train two.
OTHER_BRANCH = re.compile(
    r"\(?(mm_|base_encoder\.|momentum_encoder\.).+|\((cls_token|patch_embed|pos_embed|blocks|norm)\b.*\)"
)
# What names that our encoder has no place for are part of.
PARTS = {
    r"reg_token|register_token|storage_token": "register tokens",
    r"dist_token|head_dist|distillation": "a distillation token and its head",
    r"det_token|detection_token": "detection tokens",
    r"rope|rotary|inv_freq|freqs|periods": "rotary positions",
    r"rel_pos|relative_position": "relative positions",
    r"pre_logits": "a layer before the classifier",
    r"norm_pre|ln_pre|pre_layernorm|pre_norm": "a norm before the first block",
    r"[qk]_norm|q_bias|v_bias": "attention of another kind",
    r"mlp\.(w12|w3|w1|w2|gate|norm|fc1_[gx])|gate_proj|up_proj": "a gated MLP",
    r"stem|patch_embed(dings)?\.(backbone|proj\.\d)": "a convolutional stem",
    r"attn_pool": "attention pooling",
    r"gamma_\d|layer_scale|lambda1": "LayerScale under another name",
}


def refuse_unknown(names, used):
    """Refuse a file that has weights which our model neither takes nor may do without.

    Args:
        names: All names of the file.
        used: Those that set a weight of ours.

    Raises:
        ValueError: Naming the weights and, where it is known, what they are part of.
    """
    unknown = [name for name in names if name not in used and not is_harmless(name)]
    if unknown:
        found = {part for name in unknown for pattern, part in PARTS.items() if re.search(pattern, name)}
        listed = sorted(name.strip("()") for name in unknown)[:12]
        known = f" ({', '.join(sorted(found))})" if found else ""
        raise ValueError(f"The file is of another architecture; we have no place for: {listed}{known}.")


def part_of(name):
    """Return what a name is part of that our encoder lacks, or None."""
    return next((part for pattern, part in PARTS.items() if re.search(pattern, name)), None)


def is_harmless(name):
    """Return whether a name belongs to nothing that takes part in the encoder's arithmetic."""
    return bool(HARMLESS.fullmatch(name) or OTHER_BRANCH.fullmatch(name))
