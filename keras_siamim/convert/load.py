"""Weight files of others into our models."""

import re

from keras_siamim.backbones import ViTEncoder
from keras_siamim.convert import hugging_face
from keras_siamim.convert.files import read_weights
from keras_siamim.convert.names import dense_names, encoder_names, norm_names
from keras_siamim.convert.positions import encoder_positions, square_grid
from keras_siamim.convert.report import Report, assign
from keras_siamim.convert.shapes import MOCO_V3_HEADS, architecture, pixels
from keras_siamim.evaluation.classifier import Classifier

# Where programs that train two branches keep an encoder: SiameseIM bare and `mm_`, MoCo v3 in two modules.
_BRANCHES = {"online": ("base_encoder.", ""), "target": ("momentum_encoder.", "mm_")}
# What takes part in the encoder's arithmetic; a name of this kind that we have no place for must not be passed over.
_ENCODER = re.compile(r"(cls_token|pos_embed|dist_token|reg_token|(patch_embed|norm_pre|blocks|norm)\..+)")


def load_encoder(path, image_size=None, num_heads=None, branch="online", grid=None):
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

    Returns:
        A `ViTEncoder` and a `Report`.

    Raises:
        ValueError: If the file is of no known kind, has weights that our encoder has no place for, or lacks some.
    """
    if branch not in _BRANCHES:
        raise ValueError(f"`branch` must be one of {tuple(_BRANCHES)}. Received: {branch!r}.")
    weights, origins = _timm_names(read_weights(path))
    if num_heads is None and "base_encoder.cls_token" in weights:
        num_heads = MOCO_V3_HEADS.get(weights["base_encoder.cls_token"].shape[-1])
    weights, origins = _select_branch(weights, origins, branch)
    encoder, used = _build_encoder(weights, image_size, num_heads, grid, final_norm="norm.weight" in weights)
    return encoder, _report(used, origins, "no part of the encoder")


def load_classifier(path, image_size=None, num_heads=None, grid=None):
    """Build a classifier from the file of a fine-tuned one (SiameseIM, MAE, timm, Hugging Face) and load it.

    `fc_norm` makes it pool the mean of the patch tokens; `norm`, the class token.

    Args:
        path: As for `load_encoder`.
        image_size: Likewise.
        num_heads: Likewise.
        grid: Likewise.

    Returns:
        A `Classifier` and a `Report`.

    Raises:
        ValueError: As for `load_encoder`, or if the file has no head.
    """
    weights, origins = _timm_names(read_weights(path))
    if "head.weight" not in weights:
        raise ValueError(f"{path} has no classifier: it lacks `head.weight` and `classifier.weight`.")
    pooling, norm = ("mean", "fc_norm") if "fc_norm.weight" in weights else ("token", "norm")
    # The norm of all tokens, of which the class token is taken, is the norm of the class token: the head's.
    rest = {name: array for name, array in weights.items() if not name.startswith("norm.")}
    encoder, used = _build_encoder(rest, image_size, num_heads, grid, final_norm=False)
    classifier = Classifier(encoder, len(weights["head.weight"]), pooling)
    classifier.build((None, *encoder.image_shape))
    head = {**norm_names(classifier.head_norm, norm), **dense_names(classifier.head, "head")}
    used_by_head, _ = assign(head, weights)
    return classifier, _report((*used, *used_by_head), origins, "no part of the classifier")


def _timm_names(weights):
    if hugging_face.is_hugging_face(weights):
        return hugging_face.to_timm(weights)
    return weights, {name: (name,) for name in weights}


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
    lacking = [name for name in ("cls_token", "pos_embed", "patch_embed.proj.weight") if name not in weights]
    if lacking:
        raise ValueError(f"The file is of no known ViT: it lacks {', '.join(lacking)}.")
    table = weights["pos_embed"].reshape(-1, weights["pos_embed"].shape[-1])
    if grid is None:
        grid, table = square_grid(table)
    sizes = architecture(weights, num_heads)
    size = image_size or pixels(weights, grid)
    size = (size, size) if isinstance(size, int) else tuple(size)
    grid_to = tuple(side // sizes["patch_size"] for side in size)
    positions, learned = encoder_positions(table, tuple(grid), grid_to)
    encoder = ViTEncoder(**sizes, **positions, image_size=size, final_norm=final_norm)
    names = encoder_names(encoder)
    unknown = [name for name in weights if _ENCODER.fullmatch(name) and name not in {*names, "pos_embed"}]
    if unknown:
        raise ValueError(f"The file is of another architecture; we have no place for: {sorted(unknown)}.")
    arrays = {**weights, "pos_embed": learned} if learned is not None else weights
    used, _ = assign(names, arrays)
    return encoder, tuple(dict.fromkeys((*used, "pos_embed")))


def _report(used, origins, reason):
    """Report in the file's own names."""
    names = tuple(name for ours in used for name in origins[ours])
    return Report(names, {name: reason for group in origins.values() for name in group if name not in names}, ())
