"""Comparison with the average precision that COCO's and LVIS's own programs report."""

from typing import Any

import numpy as np

from keras_siamim.evaluation.average_precision import average_precision
from keras_siamim.verification.report import Row

# Names of the numbers in recordings, where they differ from those of `AveragePrecision`.
_NAMES = {
    "APs": "AP_small",
    "APm": "AP_medium",
    "APl": "AP_large",
    "APr": "AP_rare",
    "APc": "AP_common",
    "APf": "AP_frequent",
    "ARs": "AR_small",
    "ARm": "AR_medium",
    "ARl": "AR_large",
}
_TOLERANCE = 1e-9


def matches(recording: dict[str, Any]) -> bool:
    """Return whether a recording holds annotations and detections.

    Args:
        recording: Dictionary of the recording's entries.

    Example:
        >>> matches({"truth": {}, "detections": []}), matches({"loss": np.zeros(())})
        (True, False)
    """
    return "truth" in recording and "detections" in recording


def replay(recording: dict[str, Any]) -> list[Row]:
    """Compare all numbers of boxes and masks. Images with `neg_category_ids` are those of LVIS.

    Args:
        recording: Dictionary of the recording's entries.

    Returns:
        List of `Row`.
    """
    lvis = any("neg_category_ids" in image for image in recording["truth"]["images"])
    rows = []
    for kind in ("bbox", "segm"):
        if kind not in recording:
            continue
        limit = recording.get("max_detections")
        found = average_precision(recording["truth"], recording["detections"], kind, lvis, limit)
        for name, value in recording[kind].items():
            error = abs(found.numbers[_name(name)] - value)
            rows.append(Row(f"{kind} {name}", error, _TOLERANCE, f"{value:.4f}"))
        if by_category := recording.get(f"{kind}_AP_by_category"):
            error = abs(np.array(list(found.by_category.values())) - by_category).max()
            rows.append(Row(f"{kind} AP by category", float(error), _TOLERANCE, f"{len(by_category)} categories"))
    return rows


def _name(recorded):
    """Return the name in `AveragePrecision.numbers` of a recorded number, such as `AR@300` or `ARs@300`."""
    name, _, limit = recorded.partition("@")
    return f"AR{limit}" if limit and name == "AR" else _NAMES.get(name, name)
