"""Complete pre-training checkpoints of the authors' programs, to resume from or to inspect."""

import keras

from keras_siamim.backbones import ViTEncoder
from keras_siamim.convert.files import read_weights
from keras_siamim.convert.names import mae_names, moco_v3_names, siamese_im_names
from keras_siamim.convert.positions import sincos_order, square_grid
from keras_siamim.convert.report import Report, assign
from keras_siamim.convert.shapes import architecture, count_blocks, image_size_of, mlp_ratio_of, require_weight
from keras_siamim.objectives import MAE, MoCoV3, SiameseIM, SiameseIMAblation
from keras_siamim.types import PathLike

NAMES = {SiameseIM: siamese_im_names, SiameseIMAblation: siamese_im_names, MAE: mae_names, MoCoV3: moco_v3_names}
_COUNTER = "num_batches_tracked"


def load_objective(model: keras.Model, path: PathLike, part: str | None = None) -> Report:
    """Set all weights of an objective from a checkpoint of its authors' program.

    Args:
        model: `SiameseIM`, `SiameseIMAblation`, `MAE` or `MoCoV3` of the checkpoint's sizes. It is unchanged if an
            error is raised.
        path: String or path. A `.safetensors` or PyTorch file, see `read_weights`.
        part: String. Key of the weights in a checkpoint with several sets, see `read_weights`. Defaults to the only
            one.

    Returns:
        A `Report`.

    Raises:
        ValueError: If the file has names that the model lacks, lacks names that it has, or has other positions.
    """
    return _load(model, read_weights(path, part))


def load_siamese_im(
    path: PathLike, num_heads: int | None = None, decoder_heads: int = 16, part: str | None = None
) -> tuple[SiameseIM, Report]:
    """Build a complete `SiameseIM` from a pre-training checkpoint of its authors and load both branches.

    Args:
        path: String or path. A `.safetensors` or PyTorch file, see `read_weights`.
        num_heads: Integer. Attention heads of the encoder. Defaults to the usual number for the width.
        decoder_heads: Integer. Attention heads of projector and decoder. Defaults to 16.
        part: String. Key of the weights in a checkpoint with several sets, see `read_weights`. Defaults to the only
            one.

    Returns:
        Tuple of the `SiameseIM` and a `Report`.

    Raises:
        ValueError: If the file is not such a checkpoint, or as for `load_objective`.
    """
    weights = read_weights(path, part)
    needed = ["mm_cls_token", "decoder_embed.weight", "pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight"]
    needed += ["predictor_decoder_blocks.0.mlp.fc1.weight"]
    if missing := [name for name in needed if name not in weights]:
        raise ValueError(
            f"`path` must be a pre-training checkpoint of SiameseIM. Received: {path}, which lacks "
            f"{', '.join(missing)}."
        )
    grid, _ = square_grid(require_weight(weights, "pos_embed", (3,))[0])
    model = SiameseIM(
        ViTEncoder(**architecture(weights, num_heads), image_size=image_size_of(weights, grid)),
        decoder_width=require_weight(weights, "decoder_embed.weight", (2,)).shape[0],
        decoder_heads=decoder_heads,
        projector_depth=count_blocks(weights, "projector_decoder_blocks"),
        decoder_depth=count_blocks(weights, "predictor_decoder_blocks"),
        projector_norm=_norm(weights, "projector_decoder_blocks"),
        decoder_norm=_norm(weights, "predictor_decoder_blocks"),
        decoder_mlp_ratio=mlp_ratio_of(weights, "predictor_decoder_blocks"),
        normalize_prediction="student_norm.weight" in weights,
    )
    return model, _load(model, weights)


def _load(model, weights):
    if type(model) not in NAMES:
        raise ValueError(
            f"`model` must be one of {[kind.__name__ for kind in NAMES]}. Received: {type(model).__name__}."
        )
    names = NAMES[type(model)](model)
    reason = "PyTorch's batch counter; moving averages here have a constant rate"
    skipped = dict.fromkeys((name for name in weights if _COUNTER in name), reason)
    positions = tuple(name for name in weights if name.endswith("pos_embed") and name not in names)
    for name in positions:
        grid, table = square_grid(require_weight(weights, name, (3,))[0])
        if grid != model.encoder.grid or sincos_order(table, grid) != model.encoder.axis_order:
            raise ValueError(
                f"`path` must hold the fixed position embedding of a {model.encoder.grid} grid, "
                f"{model.encoder.axis_order}. Received: another table as {name}."
            )
    if unknown := weights.keys() - names.keys() - skipped.keys() - set(positions):
        raise ValueError(f"`path` must hold only weights of the model. Received: {sorted(unknown)}.")
    used, missing = assign(names, weights)
    return Report((*used, *positions), skipped, missing)


def _norm(weights, blocks):
    return "batch" if f"{blocks}.0.norm1.bn.weight" in weights else "layer"
