"""Encoders and classifiers built from the weight files of other programs."""

import numbers
import re

from keras_siamim.backbones import ConvNeXtEncoder, ViTEncoder
from keras_siamim.convert import hugging_face
from keras_siamim.convert.convnext import build_convnext, is_convnext
from keras_siamim.convert.files import read_weights, stored_num_heads
from keras_siamim.convert.names import dense_names, encoder_names, norm_names
from keras_siamim.convert.parts import is_head, reject_outside, reject_unknown
from keras_siamim.convert.positions import encoder_positions, sincos_order, square_grid
from keras_siamim.convert.report import Report, assign
from keras_siamim.convert.shapes import MOCO_V3_HEADS, architecture, image_size_of, require_weight
from keras_siamim.evaluation.classifier import Classifier
from keras_siamim.types import PathLike, Size

# Possible prefixes of each branch's encoder. MoCo v3 has two modules; SiameseIM has bare names and `mm_`.
_BRANCHES = {"online": ("base_encoder.", ""), "target": ("momentum_encoder.", "mm_")}
# Prefixes of the two encoders of one program, of which `branch` selects one.
_BRANCH_PAIRS = (("base_encoder.", "momentum_encoder."), ("mm_", ""))
_VIT_NAMES = re.compile(
    r"cls_token|pos_embed|(patch_embed\.proj|norm)\.(weight|bias)|"
    r"blocks\.\d+\.((norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.(weight|bias)|ls[12]\.gamma)"
)
_CLASS_TOKEN = re.compile(r"(.*?)(?:embeddings\.)?cls_token")
_MOCO_V3 = re.compile(r"(?:^|\.)(base|momentum)_encoder\.")
# Positions may be stored in half precision.
_HALF_TOLERANCE = 1e-2


def load_encoder(
    path: PathLike,
    image_size: Size | None = None,
    num_heads: int | None = None,
    branch: str = "online",
    grid: tuple[int, int] | None = None,
    part: str | None = None,
    prefix: str | None = None,
) -> tuple[ViTEncoder | ConvNeXtEncoder, Report]:
    """Build an encoder from a weight file and load its weights.

    The names identify SiameseIM, MAE, MoCo v3, the ViTs of timm and Hugging Face (`ViTModel`, `ViTMAE`), and timm's
    `convnextv2_*`. The shapes give the sizes. Sine-cosine positions, in either axis order, stay fixed. All other
    positions become learned ones, and so do those that are resized to another grid.

    Args:
        path: String or path. A `.safetensors` or PyTorch file, see `read_weights`.
        image_size: Integer or (height, width) in pixels. Defaults to the size that the file was trained at.
        num_heads: Integer. Number of attention heads. Defaults to the number that `save_encoder` stored in the file,
            or the usual number for the width.
        branch: `"online"`, or `"target"` for the momentum encoder of SiameseIM and MoCo v3. Defaults to `"online"`.
        grid: (rows, columns) of the file's position embedding. Defaults to a square.
        part: String. Key of the weights in a checkpoint with several sets, see `read_weights`. Defaults to the only
            one.
        prefix: String. First part of the encoder's names in a file with several encoders, such as
            `"teacher.backbone."`. Defaults to the only one.

    Returns:
        Tuple of the encoder and a `Report`.

    Raises:
        ValueError: If the file is of an unknown kind, has weights that the encoder lacks, or lacks some that it has.
    """
    if branch not in _BRANCHES:
        raise ValueError(f"`branch` must be one of {tuple(_BRANCHES)}. Received: {branch!r}.")
    weights, origins, outside = _read(path, part, prefix)
    if is_convnext(weights):
        convnext, used = build_convnext(weights, image_size)
        return convnext, _report(used, origins, outside, "not part of the encoder")
    weights, origins = _select_branch(weights, origins, branch)
    num_heads = num_heads if num_heads is not None else _infer_num_heads(path, origins, weights)
    encoder, used = _build_encoder(weights, image_size, num_heads, grid, final_norm="norm.weight" in weights)
    reject_unknown(weights, used)
    return encoder, _report(used, origins, outside, "not part of the encoder")


def load_classifier(
    path: PathLike,
    image_size: Size | None = None,
    num_heads: int | None = None,
    grid: tuple[int, int] | None = None,
    part: str | None = None,
    prefix: str | None = None,
) -> tuple[Classifier, Report]:
    """Build a classifier from the file of a fine-tuned one (SiameseIM, MAE, timm, Hugging Face) and load its weights.

    A file with `fc_norm` gives a classifier on the mean of the patch tokens; one with `norm`, on the class token.

    Args:
        path: String or path. As for `load_encoder`.
        image_size: Integer or (height, width) in pixels. As for `load_encoder`.
        num_heads: Integer. As for `load_encoder`.
        grid: (rows, columns). As for `load_encoder`.
        part: String. As for `load_encoder`.
        prefix: String. As for `load_encoder`.

    Returns:
        Tuple of the `Classifier` and a `Report`.

    Raises:
        ValueError: As for `load_encoder`, or if the file has no classifier.
    """
    weights, origins, outside = _read(path, part, prefix)
    if "head.weight" not in weights:
        raise ValueError(
            f"`path` must hold a classifier: `head.weight` or `classifier.weight`. Received: {path}, which has neither."
        )
    if weights["head.weight"].ndim != 2:
        raise ValueError(
            f"`path` must hold a dense classifier. Received: {path}, with a head of shape "
            f"{weights['head.weight'].shape}."
        )
    if "fc_norm.weight" in weights and "norm.weight" in weights:
        raise ValueError(
            f"`path` must hold a norm either before or after pooling. Received: {path}, with both `norm` and `fc_norm`."
        )
    pooling, norm = ("mean", "fc_norm") if "fc_norm.weight" in weights else ("token", "norm")
    # Normalizing all tokens and selecting the class token equals selecting it first: `norm` becomes the head's norm.
    rest = {name: array for name, array in weights.items() if not name.startswith("norm.")}
    num_heads = num_heads if num_heads is not None else _infer_num_heads(path, origins, weights)
    encoder, used = _build_encoder(rest, image_size, num_heads, grid, final_norm=False)
    classifier = Classifier(encoder, len(weights["head.weight"]), pooling)
    classifier.build((None, *encoder.image_shape))
    head = {**norm_names(classifier.head_norm, norm), **dense_names(classifier.head, "head")}
    used_by_head, _ = assign(head, weights)
    reject_unknown(weights, (*used, *used_by_head), head=True)
    return classifier, _report((*used, *used_by_head), origins, outside, "not part of the classifier")


def _read(path, part, prefix):
    """Return weights by timm's name, their original names by timm's name, and the names outside the encoder."""
    stored = read_weights(path, part)
    inside, outside = _split_by_prefix(stored, prefix)
    weights = {name: stored[full] for name, full in inside.items()}
    if not hugging_face.is_hugging_face(weights):
        return weights, {name: (full,) for name, full in inside.items()}, outside
    weights, origins = hugging_face.to_timm(weights)
    return weights, {name: tuple(inside[original] for original in origins[name]) for name in weights}, outside


def _split_by_prefix(names, prefix):
    """Split names of a larger model into the encoder's, full names by names without prefix, and all others."""
    found = {m[1] for name in names if (m := _CLASS_TOKEN.fullmatch(name))}
    others = ()
    if prefix is None:
        prefix = _common_prefix(found)
    elif prefix not in found:
        raise ValueError(f"`prefix` must be one of {_listed(found)}. Received: {prefix!r}.")
    else:
        others = tuple(other for other in found if other != prefix and other.startswith(prefix))
    inside = {
        name.removeprefix(prefix): name for name in names if name.startswith(prefix) and not name.startswith(others)
    }
    outside = [name for name in names if name not in inside.values()]
    reject_outside(outside, prefix)
    # A classifier's names do not have its encoder's prefix.
    heads = {name: name for name in outside if is_head(name) and name not in inside}
    return inside | heads, [name for name in outside if name not in heads]


def _common_prefix(found):
    """Return the prefix of the only encoder, or of a program's pair of branches."""
    for branches in _BRANCH_PAIRS:
        for one in found:
            for branch in branches:
                common = one[: len(one) - len(branch)]
                if one.endswith(branch) and found <= {common + name for name in branches}:
                    return common
    if found:
        raise ValueError(f"`prefix` must be one of {_listed(found)}, the encoders in the file. Received: None.")
    return ""


def _listed(prefixes):
    return ", ".join(prefix or "''" for prefix in sorted(prefixes)) or "none"


def _infer_num_heads(path, origins, weights):
    """Return the number of heads that the file stores or that its names imply, or None."""
    if "cls_token" in weights and any(_MOCO_V3.search(name) for names in origins.values() for name in names):
        return MOCO_V3_HEADS.get(weights["cls_token"].shape[-1])
    return stored_num_heads(path)


def _select_branch(weights, origins, branch):
    """Rename one branch's weights to bare names, and put all other names in parentheses."""
    prefix = next((prefix for prefix in _BRANCHES[branch] if f"{prefix}cls_token" in weights), None)
    if prefix is None:
        raise ValueError(
            f"`path` must hold the {branch} encoder. Received: a file without {_BRANCHES[branch][-1]}cls_token."
        )
    # SiameseIM has one position embedding for both branches.
    positions = f"{prefix}pos_embed" if f"{prefix}pos_embed" in weights else "pos_embed"
    renamed = {name: name.removeprefix(prefix) if name.startswith(prefix) else f"({name})" for name in weights}
    renamed[positions] = "pos_embed"
    return (
        {renamed[name]: array for name, array in weights.items()},
        {renamed[name]: origins[name] for name in weights},
    )


def _build_encoder(weights, image_size, num_heads, grid, final_norm):
    """Return an encoder with the weights, and the names that it used."""
    needed = ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight")
    missing = [name for name in needed if name not in weights]
    if missing:
        reject_unknown(weights, [name for name in weights if _VIT_NAMES.fullmatch(name)])
        raise ValueError(f"`path` must hold a Vision Transformer. Received: a file without {', '.join(missing)}.")
    require_weight(weights, "pos_embed", (3, 2))
    require_weight(weights, "cls_token", (3, 2, 1))
    reject_unknown(weights, [name for name in weights if _VIT_NAMES.fullmatch(name)])
    table = weights["pos_embed"].reshape(-1, weights["pos_embed"].shape[-1])
    if grid is None:
        grid, table = square_grid(table)
    width = weights["cls_token"].shape[-1]
    # Fixed positions exclude timm's model of this width; SiameseIM's files are known by their names.
    fixed = width in MOCO_V3_HEADS and sincos_order(table, tuple(grid), _HALF_TOLERANCE) is not None
    if num_heads is None and fixed and not any(name.strip("(").startswith("mm_") for name in weights):
        raise ValueError(
            f"`num_heads` must be given for a file of width {width} that does not name its program: most programs "
            "have 6 heads and MoCo v3 has 12. Received: None."
        )
    sizes = architecture(weights, num_heads)
    size = image_size or image_size_of(weights, grid)
    size = (size, size) if isinstance(size, numbers.Integral) else tuple(size)
    grid_to = tuple(side // sizes["patch_size"] for side in size)
    positions, learned = encoder_positions(table, tuple(grid), grid_to)
    encoder = ViTEncoder(**sizes, **positions, image_size=size, final_norm=final_norm)
    names = encoder_names(encoder)
    unused = [name for name in weights if _VIT_NAMES.fullmatch(name) and name not in {*names, "pos_embed"}]
    reject_unknown(unused, ())
    arrays = {**weights, "pos_embed": learned} if learned is not None else weights
    used, _ = assign(names, arrays)
    return encoder, tuple(dict.fromkeys((*used, "pos_embed")))


def _report(used, origins, outside, reason):
    """Create a `Report` in the file's own names."""
    names = tuple(name for timm_name in used for name in origins[timm_name])
    skipped = (*(name for group in origins.values() for name in group if name not in names), *outside)
    return Report(names, dict.fromkeys(skipped, reason), ())
