"""Comparison with mmsegmentation's UPerNet: the whole segmenter, or its neck and heads alone."""

import keras
import numpy as np
from keras import ops

from keras_siamim.backbones import ViTEncoder
from keras_siamim.convert.names import Slot
from keras_siamim.convert.upernet import head_names, upernet_names
from keras_siamim.optimizers import GradientKeepingAdamW
from keras_siamim.segmentation import UPerNet
from keras_siamim.segmentation.heads import AuxiliaryHead, MultiScaleNeck, UPerHead
from keras_siamim.segmentation.layers import resize_bilinear
from keras_siamim.segmentation.loss import pixel_cross_entropy
from keras_siamim.verification.gradients import gradient_rows
from keras_siamim.verification.report import Row, error_row, relative_error
from keras_siamim.verification.weights import config_of, load_weights, section

MAPS, LOSS, GRADIENT = 1e-4, 1e-5, 1e-3
AUXILIARY_WEIGHT = 0.4


def matches(recording: dict[str, np.ndarray]) -> bool:
    """Return whether a recording is of UPerNet or of its heads.

    Args:
        recording: Dictionary of the recording's arrays.

    Example:
        >>> matches({"weights/decode_head.conv_seg.weight": np.zeros(3)})
        True
    """
    return "weights/decode_head.conv_seg.weight" in recording


def replay(recording: dict[str, np.ndarray]) -> list[Row]:
    """Compare maps, logits, losses, gradients, sliding windows, and running statistics if both states are recorded.

    Args:
        recording: Dictionary of the recording's arrays.

    Returns:
        List of `Row`.
    """
    whole = any(key.startswith("weights/backbone.") for key in recording)
    return _replay_segmenter(recording) if whole else _replay_heads(recording)


def _replay_segmenter(recording):
    config = config_of(recording)
    sizes = {name: config[name] for name in ("image_size", "patch_size", "width", "depth", "num_heads")}
    hidden = recording["weights/backbone.layers.0.ffn.layers.0.0.bias"].shape[0]
    encoder = ViTEncoder(**sizes, mlp_ratio=hidden / config["width"])
    model = UPerNet(
        encoder,
        config["classes"],
        config["crop"],
        config["head_width"],
        config["auxiliary_width"],
        taps=config["taps"],
        drop_path_rate=0.0,
        dropout=0.0,
        auxiliary_weight=config["auxiliary_weight"],
        ignore=config["ignore"],
    )
    table = upernet_names(model)
    load_weights(table, section(recording, "weights"))
    images, labels = recording["images"], recording["labels"].astype("int32")

    first = model.sliding_logits(images[0])[None]
    rows = [error_row("test/logits_first", first, recording["test/logits_first"], MAPS)]
    rows.append(_slide_row(model, config, recording))
    before = model.get_weights()
    outputs = _Stages(model).predict_on_batch(images)
    rows += [error_row(name, outputs[name], recording[name], MAPS) for name in outputs if name in recording]
    rows += _training_rows(outputs["logits"], outputs["auxiliary_logits"], labels, config["ignore"], recording)
    model.set_weights(before)
    model.compile(GradientKeepingAdamW(1e-9))
    logs = model.train_on_batch(images, labels, return_dict=True)
    rows.append(Row("loss", relative_error(logs["loss"], recording["loss"]), LOSS))
    gradients = gradient_rows(model, table, section(recording, "grad"), tolerance=GRADIENT)
    return rows + gradients + _running_rows(table, recording)


class _Stages(keras.Model):
    """All stages of a training pass as one program, since JAX would compile each operation by itself."""

    def __init__(self, model):
        super().__init__(name="stages")
        self.model = model

    def call(self, images):
        maps = self.model.backbone(images, training=True)
        scaled = self.model.neck(maps, training=True)
        return {
            **{f"tap{index}": value for index, value in enumerate(maps)},
            **{f"scaled{index}": value for index, value in enumerate(scaled)},
            "logits": self.model.head(scaled, training=True),
            "auxiliary_logits": self.model.auxiliary_head(scaled[2], training=True),
        }


def _slide_row(model, config, recording):
    logits = [model.sliding_logits(image, config["stride"]) for image in recording["slide/images"]]
    return error_row("slide/logits", np.stack(logits), recording["slide/logits"], MAPS)


def _training_rows(logits, auxiliary, labels, ignore, recording):
    rows = []
    logits, auxiliary = (ops.convert_to_tensor(value) for value in (logits, auxiliary))
    for name, value in (("train/logits", logits), ("train/auxiliary_logits", auxiliary)):
        if name in recording:
            rows.append(error_row(name, value, recording[name], MAPS))
    main = pixel_cross_entropy(logits, labels, ignore)
    losses = {
        "loss_main": main,
        "loss_auxiliary_weighted": AUXILIARY_WEIGHT * pixel_cross_entropy(auxiliary, labels, ignore),
        "loss_main_over_labelled_pixels": pixel_cross_entropy(logits, labels, ignore, over_labeled=True),
    }
    return rows + [error_row(name, value, recording[name], LOSS) for name, value in losses.items() if name in recording]


def _running_rows(table, recording):
    # Where `weights/...` holds the statistics after the pass too, those before it are unknown.
    recorded = {
        name: value
        for name, value in section(recording, "after").items()
        if not np.array_equal(value, recording[f"weights/{name}"])
    }
    if not recorded:
        return []
    errors = {name: relative_error(ops.convert_to_numpy(table[name].variable), recorded[name]) for name in recorded}
    worst = max(errors, key=lambda name: errors[name])
    return [Row(f"{len(errors)} running statistics", errors[worst], MAPS, f"worst: {worst}")]


class _Heads(keras.Model):
    """Neck and heads of UPerNet, with the maps as weights so that they have gradients too."""

    def __init__(self, maps, num_classes, width, auxiliary_width, pool_scales):
        super().__init__(name="heads")
        self.neck = MultiScaleNeck()
        self.head = UPerHead(num_classes, width, pool_scales, dropout=0.0)
        self.auxiliary_head = AuxiliaryHead(num_classes, auxiliary_width, dropout=0.0)
        self.maps = [self.add_weight(shape=value.shape, name=f"features{index}") for index, value in enumerate(maps)]
        for variable, value in zip(self.maps, maps, strict=True):
            variable.assign(value)
        shapes = [value.shape for value in maps]
        self.neck.build(shapes)
        scaled = self.neck.compute_output_shape(shapes)
        self.head.build(scaled)
        self.auxiliary_head.build(scaled[2])
        self.built = True

    def call(self, inputs, training=False):
        scaled = self.neck([ops.convert_to_tensor(x) for x in self.maps], training=training)
        outputs = {f"scaled{index}": value for index, value in enumerate(scaled)}
        if not training:
            outputs["pooled"] = self.head.pool_pyramid(scaled[-1])
        outputs["logits"] = self.head(scaled, training=training)
        outputs["auxiliary_logits"] = self.auxiliary_head(scaled[2], training=training)
        return outputs

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        main = pixel_cross_entropy(y_pred["logits"], y)
        return main + AUXILIARY_WEIGHT * pixel_cross_entropy(y_pred["auxiliary_logits"], y)


class _InTraining(keras.Model):
    """A training pass as a prediction."""

    def __init__(self, model):
        super().__init__(name="in_training")
        self.model = model

    def call(self, inputs):
        return self.model(inputs, training=True)


def _replay_heads(recording):
    config = config_of(recording)
    maps = [recording[key] for key in sorted(key for key in recording if key.startswith("features"))]
    model = _Heads(
        maps, config["classes"], config["head_width"], config["auxiliary_width"], tuple(config["pool_scales"])
    )
    table = head_names(model.neck, model.head, model.auxiliary_head)
    load_weights(table, section(recording, "weights"))
    labels = recording["labels"].astype("int32")

    outputs = model.predict_on_batch(labels)
    resized = recording["test/logits_resized_first"]
    full = ops.convert_to_numpy(resize_bilinear(ops.convert_to_tensor(outputs["logits"][:1]), labels.shape[1:]))
    step = -(-labels.shape[1] // resized.shape[1])
    rows = [
        error_row(f"test/{name}", outputs[name], recording[f"test/{name}"], MAPS)
        for name in ("pooled", "logits", "auxiliary_logits")
    ]
    rows.append(error_row("test/logits_resized_first", full[:, ::step, ::step], resized, MAPS))
    before = model.get_weights()
    outputs = _InTraining(model).predict_on_batch(labels)
    rows += [error_row(name, outputs[name], recording[name], MAPS) for name in outputs if name in recording]
    rows += _training_rows(outputs["logits"], outputs["auxiliary_logits"], labels, 255, recording)
    model.set_weights(before)
    model.compile(GradientKeepingAdamW(1e-9))
    model.train_on_batch(labels, labels)
    with_maps = table | {f"features{index}": Slot(variable) for index, variable in enumerate(model.maps)}
    gradients = gradient_rows(model, with_maps, section(recording, "grad"), tolerance=GRADIENT)
    return rows + gradients + _running_rows(table, recording)
