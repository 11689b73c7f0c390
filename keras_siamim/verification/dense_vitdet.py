"""Comparison with detectron2's ViTDet: the whole detector."""

import numpy as np
from keras import ops

from keras_siamim import batch as keys
from keras_siamim.convert.vitdet import mask_rcnn_names
from keras_siamim.detection import MaskRCNN, image_masks
from keras_siamim.detection.losses import ANCHOR_THRESHOLDS
from keras_siamim.ops.boxes import pairwise_iou
from keras_siamim.ops.matching import match_boxes
from keras_siamim.optimizers import GradientKeepingAdamW
from keras_siamim.verification import detection_inputs as inputs
from keras_siamim.verification.dense_roi_heads import LOSSES
from keras_siamim.verification.gradients import gradient_rows
from keras_siamim.verification.report import Row, relative_error
from keras_siamim.verification.weights import config_of, encoder_of, load_weights, section

LOSS, GRADIENT = 1e-5, 1e-3
ALL_LOSSES = {**LOSSES, "anchor_class_loss": "loss_rpn_cls", "anchor_box_loss": "loss_rpn_loc"}


def matches(recording: dict[str, np.ndarray]) -> bool:
    """Return whether a recording is of a whole detector.

    Args:
        recording: Dictionary of the recording's arrays.

    Example:
        >>> matches({"weights/proposal_generator.rpn_head.conv.conv0.weight": np.zeros(3)})
        True
    """
    return "weights/proposal_generator.rpn_head.conv.conv0.weight" in recording


class _Replayed(MaskRCNN):
    """Detector that repeats the recorded samples."""

    draws: dict[str, np.ndarray]

    def draw(self, purpose, shape):
        return ops.convert_to_tensor(self.draws[purpose])


def replay(recording: dict[str, np.ndarray]) -> list[Row]:
    """Compare labels of anchors, losses, gradients, and detections in resized and original pixels.

    Args:
        recording: Dictionary of the recording's arrays.

    Returns:
        List of `Row`.
    """
    model = _detector(recording)
    table = mask_rcnn_names(model)
    load_weights(table, section(recording, "weights"))
    batch = _batch(recording, model.image_size)
    rows = _label_rows(model, batch, recording)
    originals = [recording[f"image{i}/original_height_width"] for i in range(len(batch[keys.IMAGES]))]
    test = {name: batch[name] for name in (keys.IMAGES, keys.SIZES)}
    resized = model.predict_on_batch(test)
    final = model.predict_on_batch({**test, keys.ORIGINAL_SIZES: np.array(originals, "int32")})
    for image, (height, width) in enumerate(originals):
        for name, found in ((f"detections{image}", resized), (f"final{image}", final)):
            recorded = section(recording, name)
            if np.array_equal(recorded["boxes"], recording[f"final{image}/boxes"]):
                # detectron2 scales boxes in place, so that both records may hold those of the stored image.
                found = {**found, "boxes": final["boxes"]}
            rows += inputs.detection_rows(found, image, recorded, name)
        if f"final{image}/masks" in recording:
            count = final["counts"][image]
            pasted = image_masks(final["masks"][image, :count], final["boxes"][image, :count], int(height), int(width))
            rows.append(inputs.equal_row(f"final{image}/masks", pasted, recording[f"final{image}/masks"]))
    model.compile(GradientKeepingAdamW(1e-9), jit_compile=False)
    logs = model.train_on_batch(batch, return_dict=True)
    for name in model.trackers:
        value = recording[ALL_LOSSES[name]]
        rows.append(Row(ALL_LOSSES[name], relative_error(logs[name], value), LOSS))
    return rows + gradient_rows(model, table, section(recording, "grad"), tolerance=GRADIENT)


def _detector(recording):
    config = config_of(recording)
    settings = inputs.settings_of(config)
    hidden = recording["weights/backbone.net.blocks.0.mlp.fc1.bias"].shape[0]
    encoder = encoder_of({**config, "image_size": config["pretrain_image_size"]}, mlp_ratio=hidden / config["width"])
    model = _Replayed(
        encoder,
        config["classes"],
        config["image_size"],
        masks=any(key.startswith("weights/roi_heads.mask_head") for key in recording),
        settings=settings,
        window_size=config["window_size"],
        global_blocks=sorted(set(range(config["depth"])) - set(config["window_blocks"])),
        drop_path_rate=0.0,
    )
    objects = inputs.truth_of(recording)["boxes"].shape[1]
    model.draws = {
        "anchors": inputs.priorities_of(recording, "rpn_image"),
        "regions": inputs.priorities_of(recording, "roi_image", settings.post_nms_train, objects),
    }
    return model


def _batch(recording, image_size):
    config, images = config_of(recording), range(inputs.count_of(recording, "image"))
    mean, deviation = (np.array(config[name], "float32") for name in ("pixel_mean", "pixel_std"))
    pixels = [(recording[f"image{i}/pixels"].astype("float32") - mean) / deviation for i in images]
    truth = inputs.truth_of(recording)
    # The batch is padded to the size of the model.
    frame = np.zeros((*image_size, 3), "float32")
    batch = {
        keys.IMAGES: inputs.padded([*pixels, frame])[:-1],
        keys.SIZES: np.array([x.shape[:2] for x in pixels], "int32"),
        keys.BOXES: truth["boxes"],
        keys.CLASSES: truth["classes"],
    }
    if "masks" in truth:
        rows, columns = (side - truth["masks"].shape[2 + axis] for axis, side in enumerate(image_size))
        batch[keys.MASKS] = np.pad(truth["masks"], ((0, 0), (0, 0), (0, rows), (0, columns))).astype("uint8")
    return batch


def _label_rows(model, batch, recording):
    grids = [shape[1:3] for shape in model.pyramid.compute_output_shape((None, *model.backbone.grid, 1))]
    anchors = np.concatenate(model.proposal_head.anchors(grids))
    valid = ops.convert_to_tensor(batch[keys.CLASSES] >= 0)
    labels = match_boxes(pairwise_iou(batch[keys.BOXES], anchors), valid, ANCHOR_THRESHOLDS, with_best=True)[1]
    return [
        inputs.equal_row(f"rpn_image{image}/labels", row, recording[f"rpn_image{image}/labels"])
        for image, row in enumerate(ops.convert_to_numpy(labels))
    ]
