"""Weight files of others into our models."""

import numbers
import re

from keras_siamim.backbones import ViTEncoder
from keras_siamim.convert import hugging_face
from keras_siamim.convert.files import read_weights
from keras_siamim.convert.names import dense_names, encoder_names, norm_names
from keras_siamim.convert.parts import is_harmless, part_of, refuse_unknown
from keras_siamim.convert.positions import encoder_positions, sincos_order, square_grid
from keras_siamim.convert.report import Report, assign
from keras_siamim.convert.shapes import MOCO_V3_HEADS, architecture, pixels
from keras_siamim.evaluation.classifier import Classifier

# Where programs that train two branches keep an encoder: SiameseIM bare and `mm_`, MoCo v3 in two modules.
_BRANCHES = {"online": ("base_encoder.", ""), "target": ("momentum_encoder.", "mm_")}
# The names of a plain ViT, of any depth.
_OURS = re.compile(
    r"cls_token|pos_embed|(patch_embed\.proj|norm)\.(weight|bias)|"
    r"blocks\.\d+\.((norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.(weight|bias)|ls[12]\.gamma)"
)
# What the names of an encoder begin with in no program that we know: the encoder is part of a larger model there.
_INSIDE = re.compile(r"(.*?)(?:embeddings\.)?cls_token")


def load_encoder(path, image_size=None, num_heads=None, branch="online", grid=None, part=None, prefix=None):
    """Build an encoder from a weight file and load it.

    Knows SiameseIM, MAE, MoCo v3 and timm's and Hugging Face's ViT (`ViTModel`, `ViTMAE`) by their names; sizes are
    read from shapes. Positions that are the sine-cosine table, in whichever channel order, stay fixed; all others, and
    those of another grid than the file's, become learned ones.

    Args:
        path: `.pth` or `.safetensors`, see `read_weights`.
        image_size: Height and width in pixels, a number or a pair; None for what the file was trained on.
        num_heads: Attention heads, which no file tells; None for what is usual at the width.
        branch: `"online"`, or `"target"` for the momentum encoder of SiameseIM and MoCo v3.
        grid: (rows, columns) of the file's position embedding where it is no square.
        part: Key of the weights in a checkpoint that holds several sets, see `read_weights`.
        prefix: What the names of the encoder begin with in a file that holds several encoders, such as
            `"teacher.backbone."`. Defaults to the only one.

    Returns:
        A `ViTEncoder` and a `Report`.

    Raises:
        ValueError: If the file is of no known kind, has weights that our encoder has no place for, or lacks some.
    """
    if branch not in _BRANCHES:
        raise ValueError(f"`branch` must be one of {tuple(_BRANCHES)}. Received: {branch!r}.")
    weights, origins = _timm_names(_of_prefix(read_weights(path, part), prefix))
    if num_heads is None and "base_encoder.cls_token" in weights:
        num_heads = MOCO_V3_HEADS.get(weights["base_encoder.cls_token"].shape[-1])
    weights, origins = _select_branch(weights, origins, branch)
    encoder, used = _build_encoder(weights, image_size, num_heads, grid, final_norm="norm.weight" in weights)
    refuse_unknown(weights, used)
    return encoder, _report(used, origins, "no part of the encoder")


def load_classifier(path, image_size=None, num_heads=None, grid=None, part=None, prefix=None):
    """Build a classifier from the file of a fine-tuned one (SiameseIM, MAE, timm, Hugging Face) and load it.

    `fc_norm` makes it pool the mean of the patch tokens; `norm`, the class token.

    Args:
        path: As for `load_encoder`.
        image_size: Likewise.
        num_heads: Likewise.
        grid: Likewise.
        part: Likewise.
        prefix: Likewise.

    Returns:
        A `Classifier` and a `Report`.

    Raises:
        ValueError: As for `load_encoder`, or if the file has no head.
    """
    weights, origins = _timm_names(_of_prefix(read_weights(path, part), prefix))
    if "head.weight" not in weights:
        raise ValueError(f"{path} has no classifier: it lacks `head.weight` and `classifier.weight`.")
    if weights["head.weight"].ndim != 2:
        raise ValueError(
            f"{path} must have a dense classifier. Received: a head of shape {weights['head.weight'].shape}."
        )
    if "fc_norm.weight" in weights and "norm.weight" in weights:
        raise ValueError(f"{path} must have a norm before or after pooling. Received: both `norm` and `fc_norm`.")
    pooling, norm = ("mean", "fc_norm") if "fc_norm.weight" in weights else ("token", "norm")
    # The norm of all tokens, of which the class token is taken, is the norm of the class token: the head's.
    rest = {name: array for name, array in weights.items() if not name.startswith("norm.")}
    encoder, used = _build_encoder(rest, image_size, num_heads, grid, final_norm=False)
    classifier = Classifier(encoder, len(weights["head.weight"]), pooling)
    classifier.build((None, *encoder.image_shape))
    head = {**norm_names(classifier.head_norm, norm), **dense_names(classifier.head, "head")}
    used_by_head, _ = assign(head, weights)
    refuse_unknown(weights, (*used, *used_by_head))
    return classifier, _report((*used, *used_by_head), origins, "no part of the classifier")


def _timm_names(weights):
    if hugging_face.is_hugging_face(weights):
        return hugging_face.to_timm(weights)
    return weights, {name: (name,) for name in weights}


def _of_prefix(weights, prefix):
    """Weights with the encoder's prefix taken off, where the encoder is part of a larger model."""
    known = {"", "vit.", *(prefix for prefixes in _BRANCHES.values() for prefix in prefixes)}
    found = {m[1] for name in weights if (m := _INSIDE.fullmatch(name))}
    if prefix is None:
        if found & known or not found:
            return weights
        if len(found) > 1:
            raise ValueError(
                f"`prefix` must be one of {', '.join(sorted(found))}, the encoders in the file. Received: None."
            )
        (prefix,) = found
    elif prefix not in found:
        raise ValueError(f"`prefix` must be one of {', '.join(sorted(found)) or 'none'}. Received: {prefix!r}.")
    # What is not below the prefix is another part of the larger model, of which an encoder needs nothing.
    inside = {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}
    outside = {name: array for name, array in weights.items() if not name.startswith(prefix)}
    # Parts that take part in the encoder's arithmetic wherever they stand keep their names, and are refused by them.
    kept = {name for name in outside if is_harmless(name) or part_of(name)}
    return inside | {name if name in kept else f"head.{name}": array for name, array in outside.items()}


def _select_branch(weights, origins, branch):
    """The weights of one branch under bare names; all others keep names that no encoder has."""
    prefix = next((prefix for prefix in _BRANCHES[branch] if f"{prefix}cls_token" in weights), None)
    if prefix is None:
        raise ValueError(f"The file has no {branch} encoder: it lacks {_BRANCHES[branch][-1]}cls_token.")
    positions = f"{prefix}pos_embed" if f"{prefix}pos_embed" in weights else "pos_embed"  # SiameseIM has one for both
    renamed = {name: name.removeprefix(prefix) if name.startswith(prefix) else f"({name})" for name in weights}
    renamed[positions] = "pos_embed"
    return (
        {renamed[name]: array for name, array in weights.items()},
        {renamed[name]: origins[name] for name in weights},
    )


def _build_encoder(weights, image_size, num_heads, grid, final_norm):
    """An encoder and the names that it used."""
    needed = ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight")
    lacking = [name for name in needed if name not in weights]
    if lacking:
        refuse_unknown(weights, [name for name in weights if _OURS.fullmatch(name)])
        raise ValueError(f"The file is of no known ViT: it lacks {', '.join(lacking)}.")
    ranks = {"patch_embed.proj.weight": (4,), "pos_embed": (2, 3), "blocks.0.mlp.fc1.weight": (2,)}
    for name, allowed in ranks.items():
        if weights[name].ndim not in allowed:
            raise ValueError(f"{name} must have the rank {allowed[0]}. Received: the shape {weights[name].shape}.")
    refuse_unknown(weights, [name for name in weights if _OURS.fullmatch(name)])
    table = weights["pos_embed"].reshape(-1, weights["pos_embed"].shape[-1])
    if grid is None:
        grid, table = square_grid(table)
    width = weights["cls_token"].shape[-1]
    # A fixed table: not timm's model of that width. Of pre-training files, names tell the program.
    fixed = width in MOCO_V3_HEADS and sincos_order(table, tuple(grid)) is not None
    if num_heads is None and fixed and not any(name.strip("(").startswith("mm_") for name in weights):
        raise ValueError(
            f"`num_heads` must be given: at a width of {width} most programs have 6 and MoCo v3 has 12, and the file "
            "doesn't tell which it is of."
        )
    sizes = architecture(weights, num_heads)
    size = image_size or pixels(weights, grid)
    size = (size, size) if isinstance(size, numbers.Integral) else tuple(size)
    grid_to = tuple(side // sizes["patch_size"] for side in size)
    positions, learned = encoder_positions(table, tuple(grid), grid_to)
    encoder = ViTEncoder(**sizes, **positions, image_size=size, final_norm=final_norm)
    names = encoder_names(encoder)
    unused = [name for name in weights if _OURS.fullmatch(name) and name not in {*names, "pos_embed"}]
    refuse_unknown(unused, ())
    arrays = {**weights, "pos_embed": learned} if learned is not None else weights
    used, _ = assign(names, arrays)
    return encoder, tuple(dict.fromkeys((*used, "pos_embed")))


def _report(used, origins, reason):
    """Report in the file's own names."""
    names = tuple(name for ours in used for name in origins[ours])
    return Report(names, {name: reason for group in origins.values() for name in group if name not in names}, ())
