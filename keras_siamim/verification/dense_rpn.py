"""Comparison with detectron2's region proposal network."""

import keras
import numpy as np
from keras import ops

from keras_siamim.convert.names import Slot
from keras_siamim.convert.vitdet import proposal_head_names
from keras_siamim.detection.losses import ANCHOR_THRESHOLDS, Truth, anchor_losses
from keras_siamim.detection.proposals import ProposalHead, select_proposals
from keras_siamim.ops.boxes import pairwise_iou
from keras_siamim.ops.matching import match_boxes
from keras_siamim.optimizers import GradientKeepingAdamW
from keras_siamim.verification import detection_inputs as inputs
from keras_siamim.verification.gradients import gradient_rows
from keras_siamim.verification.program import run_compiled
from keras_siamim.verification.report import Row, error_row, relative_error
from keras_siamim.verification.weights import config_of, load_weights, section

MAPS, LOSS, GRADIENT = 1e-4, 1e-5, 1e-3


def matches(recording: dict[str, np.ndarray]) -> bool:
    """Return whether a recording is of a region proposal network alone.

    Args:
        recording: Dictionary of the recording's arrays.

    Example:
        >>> matches({"weights/rpn_head.conv.conv0.weight": np.zeros(3)})
        True
    """
    return "weights/rpn_head.conv.conv0.weight" in recording


class _Network(keras.Model):
    """Head of a recording, with the maps as weights so that they have gradients too."""

    def __init__(self, recording):
        super().__init__(name="network", autocast=False)
        self.recording = recording
        config = config_of(recording)
        self.settings = inputs.settings_of(
            config, positive_fraction="anchor_positive_fraction", nms_threshold="proposal_nms_threshold"
        )
        self.levels, self.maps, strides = inputs.maps_as_weights(self, recording)
        self.head = ProposalHead(strides, self.settings.anchor_sizes, self.settings.aspect_ratios, name="head")
        self.head.build([tuple(x.shape) for x in self.maps])
        truth = inputs.truth_of(recording)
        self.truth = Truth(truth["boxes"], truth["classes"])
        self.priorities = inputs.priorities_of(recording, "image")
        self.built = True

    def call(self, x):
        return self.head([ops.convert_to_tensor(x) for x in self.maps])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return sum(self.losses_of(y_pred))

    def losses_of(self, predictions):
        logits, deltas = (ops.concatenate(values, axis=1) for values in predictions[:2])
        return anchor_losses(
            logits,
            deltas,
            ops.convert_to_tensor(np.concatenate(predictions.anchors)),
            Truth(*(ops.convert_to_tensor(x) for x in self.truth)),
            ops.convert_to_tensor(self.priorities),
            self.settings.anchors_sampled,
            self.settings.anchor_positive_fraction,
        )

    def outputs(self, sizes):
        """Return everything that the recording holds, but gradients."""
        predictions = self(sizes)
        found = {}
        for level, logits, deltas in zip(self.levels, *predictions[:2], strict=True):
            found[f"head/{level}/logits"] = logits
            found[f"head/{level}/deltas"] = deltas
        found["loss_rpn_cls"], found["loss_rpn_loc"] = self.losses_of(predictions)
        anchors = ops.convert_to_tensor(np.concatenate(predictions.anchors))
        truth = Truth(*(ops.convert_to_tensor(x) for x in self.truth))
        iou = pairwise_iou(truth.boxes, anchors)
        found["labels"] = match_boxes(iou, truth.valid, ANCHOR_THRESHOLDS, with_best=True)[1]
        settings = self.settings
        for mode in ("train", "test"):
            proposals = select_proposals(
                predictions,
                sizes,
                getattr(settings, f"pre_nms_{mode}"),
                getattr(settings, f"post_nms_{mode}"),
                settings.proposal_nms_threshold,
            )
            found[f"proposals_{mode}"] = proposals._asdict()
        return found


def replay(recording: dict[str, np.ndarray]) -> list[Row]:
    """Compare logits and deltas, labels of anchors, losses, gradients, and proposals of training and test.

    Args:
        recording: Dictionary of the recording's arrays.

    Returns:
        List of `Row`.
    """
    model = _Network(recording)
    table = proposal_head_names(model.head)
    load_weights(table, section(recording, "weights"))
    sizes = recording["image_sizes"].astype("int32")
    found = run_compiled(lambda x: model.outputs(x["sizes"]), {"sizes": sizes})
    rows = []
    for level in model.levels:
        for name in (f"head/{level}/logits", f"head/{level}/deltas"):
            rows.append(error_row(name, found[name].reshape(recording[name].shape), recording[name], MAPS))
    for image in range(len(sizes)):
        name = f"image{image}/labels"
        rows.append(inputs.equal_row(name, found["labels"][image], recording[name]))
    for name in ("loss_rpn_cls", "loss_rpn_loc"):
        rows.append(Row(name, relative_error(found[name], recording[name]), LOSS))
    for mode in ("train", "test"):
        proposals = found[f"proposals_{mode}"]
        for image in range(len(sizes)):
            valid, name = proposals["valid"][image], f"proposals_{mode}{image}"
            rows.append(inputs.pixel_row(f"{name}/boxes", proposals["boxes"][image][valid], recording[f"{name}/boxes"]))
            logits = proposals["logits"][image][valid]
            rows.append(error_row(f"{name}/logits", logits, recording[f"{name}/logits"], MAPS))
    model.compile(GradientKeepingAdamW(1e-9), jit_compile=False)
    model.train_on_batch(sizes, sizes)
    table |= {f"features/{level}": Slot(variable) for level, variable in zip(model.levels, model.maps, strict=True)}
    return rows + gradient_rows(model, table, section(recording, "grad"), tolerance=GRADIENT)
