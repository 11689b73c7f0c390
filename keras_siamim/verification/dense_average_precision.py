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
    "AR@300": "AR300",
    "ARs@300": "AR_small",
    "ARm@300": "AR_medium",
    "ARl@300": "AR_large",
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
        found = average_precision(recording["truth"], recording["detections"], kind, lvis)
        for name, value in recording[kind].items():
            error = abs(found.numbers[_NAMES.get(name, name)] - value)
            rows.append(Row(f"{kind} {name}", error, _TOLERANCE, f"{value:.4f}"))
        if by_category := recording.get(f"{kind}_AP_by_category"):
            error = abs(np.array(list(found.by_category.values())) - by_category).max()
            rows.append(Row(f"{kind} AP by category", float(error), _TOLERANCE, f"{len(by_category)} categories"))
    return rows
