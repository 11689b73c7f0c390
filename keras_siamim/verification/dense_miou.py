"""Comparison with mmsegmentation's IoU metric."""

import numpy as np

from keras_siamim.evaluation.mean_iou import MeanIoU
from keras_siamim.verification.report import Row, relative_error


def matches(recording: dict[str, np.ndarray]) -> bool:
    """Return whether a recording holds predictions, labels and their IoU.

    Args:
        recording: Dictionary of the recording's arrays.

    Example:
        >>> matches({"miou": np.zeros(()), "image0/labels": np.zeros((2, 2))})
        True
    """
    return "miou" in recording and "image0/labels" in recording


def replay(recording: dict[str, np.ndarray]) -> list[Row]:
    """Compare pixel counts, IoU and accuracies; classes that do not occur must be NaN in both.

    Args:
        recording: Dictionary of the recording's arrays.

    Returns:
        List of `Row`.
    """
    metric = MeanIoU(int(recording["config/classes"]), int(recording["config/ignore"]))
    for key in recording:
        if key.endswith("/labels"):
            metric.update(recording[key], recording[key.replace("/labels", "/predictions")])
    scores = metric.scores()
    values = {
        "area/intersection": metric.intersection,
        "area/union": metric.predicted + metric.labeled - metric.intersection,
        "area/predicted": metric.predicted,
        "area/labelled": metric.labeled,
        "iou": scores.iou,
        "accuracy_by_class": scores.accuracy,
        "pixel_accuracy": scores.pixel_accuracy,
        "miou": scores.mean_iou,
        "mean_accuracy": scores.mean_accuracy,
    }
    rows = []
    for name, value in values.items():
        found, recorded = np.asarray(value, "float64"), np.asarray(recording[name], "float64")
        same = np.array_equal(np.isnan(found), np.isnan(recorded))
        error = relative_error(np.nan_to_num(found), np.nan_to_num(recorded)) if same else np.inf
        rows.append(Row(name, error, 0.0 if name.startswith("area") else 1e-6))
    return rows
