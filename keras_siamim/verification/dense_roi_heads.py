"""Comparison with detectron2's region heads, with a softmax or with LVIS's federated loss."""

import keras
import numpy as np
from keras import ops

from keras_siamim.convert.names import Slot
from keras_siamim.convert.vitdet import region_head_names
from keras_siamim.detection import losses
from keras_siamim.detection.proposals import Proposals
from keras_siamim.detection.regions import RegionHeads
from keras_siamim.ops.boxes import pairwise_iou
from keras_siamim.ops.matching import match_boxes
from keras_siamim.optimizers import GradientKeepingAdamW
from keras_siamim.verification import detection_inputs as inputs
from keras_siamim.verification.gradients import gradient_rows
from keras_siamim.verification.program import run_compiled
from keras_siamim.verification.report import Row, error_row, relative_error
from keras_siamim.verification.weights import config_of, load_weights, section

MAPS, LOSS, GRADIENT = 1e-4, 1e-5, 1e-3
# Losses here and in recordings.
LOSSES = {"class_loss": "loss_cls", "box_loss": "loss_box_reg", "mask_loss": "loss_mask"}


def matches(recording: dict[str, np.ndarray]) -> bool:
    """Return whether a recording is of region heads alone.

    Args:
        recording: Dictionary of the recording's arrays.

    Example:
        >>> matches({"weights/box_predictor.cls_score.weight": np.zeros(3)})
        True
    """
    return "weights/box_predictor.cls_score.weight" in recording


class _Heads(keras.Model):
    """Heads of a recording, with the maps as weights so that they have gradients too."""

    def __init__(self, recording):
        super().__init__(name="region_heads", autocast=False)
        self.recording = recording
        config = config_of(recording)
        self.settings = inputs.settings_of(
            config, positive_fraction="region_positive_fraction", nms_threshold="nms_threshold"
        )
        self.classes = config["classes"]
        self.levels, self.maps, strides = inputs.maps_as_weights(self, recording)
        masks = any(key.startswith("weights/mask_head") for key in recording)
        self.heads = RegionHeads(self.classes, strides, self.settings, masks, name="heads")
        self.heads.build([tuple(x.shape) for x in self.maps])
        self.truth = inputs.truth_of(recording)
        boxes = [recording[f"proposals{image}/boxes"] for image in range(inputs.count_of(recording, "proposals"))]
        self.boxes = inputs.padded(boxes)
        self.sizes = np.tile(recording["height_width"].astype("int32"), (len(boxes), 1))
        self.valid = inputs.padded([np.ones(len(rows), bool) for rows in boxes])
        objects = self.truth["boxes"].shape[1]
        self.priorities = inputs.priorities_of(recording, "image", self.boxes.shape[1], objects)
        self.built = True

    def regions(self):
        return losses.sample_regions(
            ops.convert_to_tensor(self.boxes),
            ops.convert_to_tensor(self.valid),
            self._truth(),
            ops.convert_to_tensor(self.priorities),
            self.settings.regions_sampled,
            self.settings.region_positive_fraction,
            self.classes,
        )

    def _truth(self):
        return losses.Truth(*(ops.convert_to_tensor(self.truth[name]) for name in ("boxes", "classes")))

    def call(self, x):
        return self.losses_of([ops.convert_to_tensor(x) for x in self.maps], self.regions())

    def losses_of(self, maps, regions):
        masks = None if self.heads.mask_head is None else ops.convert_to_tensor(self.truth["masks"])
        found = self.heads.losses_of(maps, regions, self.sizes, masks)
        if "federated/classes_drawn" in self.recording:
            scores, _ = self.heads.box_head(self.heads.pool(maps, regions.boxes, (7, 7)))
            found["class_loss"] = losses.federated_class_loss(scores, regions, ops.convert_to_tensor(self.drawn()))
        return found

    def drawn(self):
        """Return the recorded classes of the federated loss, (classes + 1,) bool."""
        return np.isin(np.arange(self.classes + 1), self.recording["federated/classes_drawn"])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return sum(y_pred.values())

    def outputs(self, sizes):
        """Return everything that the recording holds, but gradients."""
        maps, regions, heads = [ops.convert_to_tensor(x) for x in self.maps], self.regions(), self.heads
        features = heads.box_head.features(heads.pool(maps, regions.boxes, (7, 7)))
        scores, deltas = heads.box_head.predict_from(features, regions.boxes.shape[1])
        found = {
            **regions._asdict(),
            "labels": self._labels(),
            "train/box_features": ops.reshape(features, (*regions.boxes.shape[:2], -1)),
            "train/scores": scores,
            "train/deltas": deltas,
            "losses": self.losses_of(maps, regions),
        }
        if heads.mask_head is not None:
            count = int(self.settings.regions_sampled * self.settings.region_positive_fraction)
            pooled = heads.pool(maps, regions.boxes[:, :count], (14, 14))
            found |= {"train/mask_pooled": pooled, "train/mask_logits": heads.mask_head(pooled)}
        proposals = Proposals(*(ops.convert_to_tensor(x) for x in (self.boxes, 0.0 * self.valid, self.valid)))
        scores, deltas = heads.box_head(heads.pool(maps, proposals.boxes, (7, 7)))
        return {
            **found,
            "test/scores": scores,
            "test/deltas": deltas,
            "detections": heads.detect(maps, proposals, sizes),
        }

    def _labels(self):
        """Return the class of every candidate before sampling."""
        truth = self._truth()
        boxes = ops.concatenate([ops.convert_to_tensor(self.boxes), truth.boxes], axis=1)
        threshold = losses.REGION_THRESHOLD
        matches, labels = match_boxes(pairwise_iou(truth.boxes, boxes), truth.valid, (threshold, threshold))
        return ops.where(labels > 0, ops.take_along_axis(truth.classes, matches, axis=1), self.classes)


def replay(recording: dict[str, np.ndarray]) -> list[Row]:
    """Compare sampled regions, features, logits, losses, gradients, and detections.

    Args:
        recording: Dictionary of the recording's arrays.

    Returns:
        List of `Row`.
    """
    model = _Heads(recording)
    table = region_head_names(model.heads)
    load_weights(table, section(recording, "weights"))
    sizes = model.sizes
    found = run_compiled(lambda x: model.outputs(x["sizes"]), {"sizes": sizes})
    rows = _region_rows(model, found, recording)
    for name in ("train/box_features", "train/scores", "train/deltas"):
        value = found[name][found["valid"]]
        rows.append(error_row(name, value.reshape(recording[name].shape), recording[name], MAPS))
    for name in ("train/mask_pooled", "train/mask_logits"):
        if name in found:
            positive = found["positive"][:, : found[name].shape[1]]
            rows.append(error_row(name, found[name][positive], recording[name], MAPS))
    for name in ("test/scores", "test/deltas"):
        value = found[name][model.valid]
        rows.append(error_row(name, value.reshape(recording[name].shape), recording[name], MAPS))
    for name, value in found["losses"].items():
        rows.append(Row(LOSSES[name], relative_error(value, recording[LOSSES[name]]), LOSS))
    if "federated/classes_drawn" in recording:
        rows.append(_draw_row(model, found, recording))
    for image in range(len(sizes)):
        name = f"detections{image}"
        rows += inputs.detection_rows(found["detections"], image, section(recording, name), name)
    model.compile(GradientKeepingAdamW(1e-9), jit_compile=False)
    model.train_on_batch(sizes, sizes)
    table |= {f"features/{level}": Slot(variable) for level, variable in zip(model.levels, model.maps, strict=True)}
    return rows + gradient_rows(model, table, section(recording, "grad"), tolerance=GRADIENT)


def _region_rows(model, found, recording):
    rows = []
    for image in range(len(model.boxes)):
        objects = recording[f"truth{image}/boxes"].shape[0]
        candidates = np.r_[model.valid[image], np.arange(model.truth["boxes"].shape[1]) < objects]
        name = f"image{image}/labels"
        rows.append(inputs.equal_row(name, found["labels"][image][candidates], recording[name]))
        sampled, valid = section(recording, f"sampled{image}"), found["valid"][image]
        rows.append(inputs.pixel_row(f"sampled{image}/boxes", found["boxes"][image][valid], sampled["boxes"]))
        rows.append(inputs.equal_row(f"sampled{image}/classes", found["classes"][image][valid], sampled["classes"]))
        if "gt_boxes" in sampled:
            matched = model.truth["boxes"][image][found["truth_index"][image][valid]]
            rows.append(inputs.pixel_row(f"sampled{image}/gt_boxes", matched, sampled["gt_boxes"]))
    return rows


def _draw_row(model, found, recording):
    """Compare the classes that a draw chooses, given random numbers that favor the recorded ones."""
    drawn, weights = model.drawn(), recording["federated/class_weights"]
    regions = losses.Regions(*(ops.convert_to_tensor(found[name]) for name in losses.Regions._fields))
    uniform = np.where(drawn[:-1], 1 - 1e-6, 1e-6).astype("float32")
    least = int(recording["federated/classes_at_least"])
    chosen = losses.federated_classes(regions, ops.convert_to_tensor(weights), ops.convert_to_tensor(uniform), least)
    return inputs.equal_row("federated/classes_drawn", ops.convert_to_numpy(chosen), drawn)
