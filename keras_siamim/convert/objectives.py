"""Whole pre-training checkpoints, to continue from or to look into."""

from keras_siamim.backbones import ViTEncoder
from keras_siamim.convert.files import read_weights
from keras_siamim.convert.names import mae_names, moco_v3_names, siamese_im_names
from keras_siamim.convert.positions import sincos_order, square_grid
from keras_siamim.convert.report import Report, assign
from keras_siamim.convert.shapes import architecture, depth, pixels, ratio, weight_of
from keras_siamim.objectives import MAE, MoCoV3, SiameseIM, SiameseIMAblation

NAMES = {SiameseIM: siamese_im_names, SiameseIMAblation: siamese_im_names, MAE: mae_names, MoCoV3: moco_v3_names}
_COUNTER = "num_batches_tracked"


def load_objective(model, path, part=None):
    """Set all weights of a `SiameseIM`, `MAE` or `MoCoV3` from a checkpoint of its authors' program.

    Args:
        model: The objective, built to the checkpoint's sizes; unchanged if anything doesn't fit.
        path: `.pth` or `.safetensors`, see `read_weights`.
        part: Key of the weights in a checkpoint that holds several sets, see `read_weights`.

    Returns:
        A `Report`.

    Raises:
        ValueError: If the file has names that the model doesn't know, lacks some, or has other positions.
    """
    return _load(model, read_weights(path, part))


def load_siamese_im(path, num_heads=None, decoder_heads=16, part=None):
    """Build a whole `SiameseIM`, online and target, from one of its authors' pre-training checkpoints and load it.

    Args:
        path: `.pth` or `.safetensors`.
        num_heads: Attention heads of the encoder; None for what is usual at the width.
        decoder_heads: Attention heads of projector and decoder.
        part: Key of the weights in a checkpoint that holds several sets, see `read_weights`.

    Returns:
        A `SiameseIM` and a `Report`.

    Raises:
        ValueError: If the file is none, or as `load_objective`.
    """
    weights = read_weights(path, part)
    needed = ("mm_cls_token", "decoder_embed.weight", "pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight")
    needed += ("predictor_decoder_blocks.0.mlp.fc1.weight",)
    if lacking := [name for name in needed if name not in weights]:
        raise ValueError(f"{path} is no pre-training checkpoint of SiameseIM: it lacks {', '.join(lacking)}.")
    grid, _ = square_grid(weight_of(weights, "pos_embed", (3,))[0])
    model = SiameseIM(
        ViTEncoder(**architecture(weights, num_heads), image_size=pixels(weights, grid)),
        decoder_width=weight_of(weights, "decoder_embed.weight", (2,)).shape[0],
        decoder_heads=decoder_heads,
        projector_depth=depth(weights, "projector_decoder_blocks"),
        decoder_depth=depth(weights, "predictor_decoder_blocks"),
        projector_norm=_norm(weights, "projector_decoder_blocks"),
        decoder_norm=_norm(weights, "predictor_decoder_blocks"),
        decoder_mlp_ratio=ratio(weights, "predictor_decoder_blocks"),
        normalize_prediction="student_norm.weight" in weights,
    )
    return model, _load(model, weights)


def _load(model, weights):
    if type(model) not in NAMES:
        raise ValueError(
            f"`model` must be one of {[kind.__name__ for kind in NAMES]}. Received: {type(model).__name__}."
        )
    names = NAMES[type(model)](model)
    skipped = {name: "PyTorch's counter; our averages move at a constant rate" for name in weights if _COUNTER in name}
    positions = tuple(name for name in weights if name.endswith("pos_embed") and name not in names)
    for name in positions:
        grid, table = square_grid(weight_of(weights, name, (3,))[0])
        if grid != model.encoder.grid or sincos_order(table, grid) != model.encoder.axis_order:
            raise ValueError(
                f"{name} is not the fixed embedding of a {model.encoder.grid} grid, {model.encoder.axis_order}."
            )
    if unknown := weights.keys() - names.keys() - skipped.keys() - set(positions):
        raise ValueError(f"The file has weights that the model has no place for: {sorted(unknown)}.")
    used, missing = assign(names, weights)
    return Report((*used, *positions), skipped, missing)


def _norm(weights, blocks):
    return "batch" if f"{blocks}.0.norm1.bn.weight" in weights else "layer"
