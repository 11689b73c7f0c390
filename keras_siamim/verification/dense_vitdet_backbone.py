"""Comparison with detectron2's ViTDet backbone and feature pyramid."""

import math

import keras
import numpy as np
from keras import ops

from keras_siamim.convert.vitdet import vitdet_backbone_names
from keras_siamim.detection.backbone import WindowedViT, windowed_vit_of
from keras_siamim.detection.pyramid import FIRST_LEVEL, SimpleFeaturePyramid
from keras_siamim.ops import resize_positions
from keras_siamim.ops.windows import decomposed_position_logits, join_windows, split_windows
from keras_siamim.optimizers import GradientKeepingAdamW, LayerDecayAdamW
from keras_siamim.verification.gradients import gradient_rows
from keras_siamim.verification.report import Row, error_row, relative_error
from keras_siamim.verification.weights import config_of, encoder_of, load_weights, section

MAPS, GRADIENT = 1e-4, 1e-3
# A small difference of large sums.
LOSS = 1e-4


def matches(recording: dict[str, np.ndarray]) -> bool:
    """Return whether a recording is of ViTDet's backbone.

    Args:
        recording: Dictionary of the recording's arrays.

    Example:
        >>> matches({"input0/last_feature": np.zeros(3)})
        True
    """
    return "input0/last_feature" in recording


def backbone_of(recording: dict[str, np.ndarray], hidden_width: int) -> WindowedViT:
    """Build the backbone of a recording.

    Args:
        recording: Dictionary of the recording's arrays.
        hidden_width: Integer. Channels inside the MLPs.
    """
    config = config_of(recording)
    source = {**config, "image_size": config["pretrain_image_size"]}
    encoder = encoder_of(source, mlp_ratio=hidden_width / config["width"])
    global_blocks = sorted(set(range(config["depth"])) - set(config["window_blocks"]))
    size = config["image_size"]
    return windowed_vit_of(encoder, (size, size), config["window_size"], global_blocks, drop_path_rate=0.0)


class _Backbone(keras.Model):
    """Backbone and pyramid, whose loss is the sum of its maps, weighted by the upstream gradients."""

    def __init__(self, backbone, width, levels):
        super().__init__(name="detector")
        self.backbone = backbone
        self.pyramid = SimpleFeaturePyramid(width, name="pyramid")
        self.pyramid.build(backbone.compute_output_shape((None, *backbone.image_size, 3)))
        self.levels = levels
        self.built = True

    def call(self, images, training=False):
        return self.pyramid(self.backbone(images, training=training), training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        sums = (
            ops.sum(value * ops.convert_to_tensor(y[name])) for value, name in zip(y_pred, self.levels, strict=True)
        )
        return sum(each / math.prod(value.shape) ** 0.5 for each, value in zip(sums, y_pred, strict=True))


def replay(recording: dict[str, np.ndarray]) -> list[Row]:
    """Compare maps at two image sizes, loss, gradients, learning rate scales, and the parts of windowed attention.

    Args:
        recording: Dictionary of the recording's arrays.

    Returns:
        List of `Row`.
    """
    backbone = backbone_of(recording, recording["weights/net.blocks.0.mlp.fc1.bias"].shape[0])
    levels = [key.rpartition("/")[2] for key in recording if key.startswith("input0/upstream/")]
    model = _Backbone(backbone, config_of(recording)["pyramid_channels"], levels)
    table = vitdet_backbone_names(backbone, model.pyramid)
    load_weights(table, section(recording, "weights"))
    rows = []
    for name in ("input0", "input1"):
        last = backbone(recording[f"{name}/images"])
        rows.append(_row(f"{name}/last_feature", last, recording))
        for number, value in enumerate(model.pyramid(last), start=FIRST_LEVEL):
            rows.append(_row(f"{name}/p{number}", value, recording))
    model.compile(GradientKeepingAdamW(1e-9), jit_compile=False)
    loss = model.train_on_batch(recording["input0/images"], section(recording, "input0/upstream"), return_dict=True)[
        "loss"
    ]
    rows.append(Row("input0/loss", relative_error(loss, recording["input0/loss"]), LOSS))
    rows += gradient_rows(model, table, section(recording, "grad"), tolerance=GRADIENT)
    rows.append(_scale_row(model, table, recording))
    return rows + _part_rows(recording)


def _row(name, value, recording):
    return error_row(name, value, recording[name], MAPS)


def _scale_row(model, table, recording):
    optimizer = LayerDecayAdamW(1.0, model.backbone.depth, float(recording["layer_decay"]))
    optimizer.build(model.trainable_variables)
    errors = [
        abs(optimizer.learning_rate_scale(table[name].variable) - scale)
        for name, scale in section(recording, "lr_scale").items()
    ]
    return Row(f"{len(errors)} learning rate scales", float(max(errors)), 1e-6)


def _part_rows(recording):
    """Compare windows, relative and absolute positions."""
    tokens = recording["window/tokens"]
    windows = split_windows(tokens, recording["window/windows"].shape[1])
    joined = ops.convert_to_numpy(join_windows(windows, tokens.shape[1:3]))
    rows = [_row("window/windows", windows, recording), Row("windows joined", relative_error(joined, tokens), 0.0)]
    relative = section(recording, "relative")
    grid = tuple((len(relative[name]) + 1) // 2 for name in ("rows", "columns"))
    for name, table in (("result", "rows"), ("result_interpolated", "long_rows")):
        bias = decomposed_position_logits(
            ops.convert_to_tensor(relative["query"][:, None]), relative[table], relative["columns"], grid
        )
        rows.append(_row(f"relative/{name}", relative["attention"] + ops.convert_to_numpy(bias)[:, 0], recording))
    table, side = recording["absolute/table"][0, 1:], int(round((recording["absolute/table"].shape[1] - 1) ** 0.5))
    for name in (key for key in recording if key.startswith("absolute/resized_")):
        resized = resize_positions(ops.convert_to_tensor(table), (side, side), recording[name].shape[1:3])
        rows.append(_row(name, ops.reshape(resized, recording[name].shape), recording))
    return rows
