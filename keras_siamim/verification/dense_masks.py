"""Comparison with detectron2's mask targets and mask pasting."""

import numpy as np

from keras_siamim.ops.masks import boxes_of_masks, crop_masks, paste_masks
from keras_siamim.verification.program import run_compiled
from keras_siamim.verification.report import Row, error_row

MAPS = 1e-4


def matches(recording: dict[str, np.ndarray]) -> bool:
    """Return whether a recording is of masks.

    Args:
        recording: Dictionary of the recording's arrays.

    Example:
        >>> matches({"paste/probabilities": np.zeros(3)})
        True
    """
    return "paste/probabilities" in recording


def replay(recording: dict[str, np.ndarray]) -> list[Row]:
    """Compare masks cut out by boxes, the boxes around masks, and pasted masks.

    Args:
        recording: Dictionary of the recording's arrays.

    Returns:
        List of `Row`. Masks must be equal in every pixel.
    """
    height, width = recording["paste/height_width"].tolist()
    crops = [key for key in recording if key.startswith("targets/cropped_")]

    def computed(x):
        soft = paste_masks(x["paste/probabilities"], x["paste/boxes"], height, width)
        found = {
            "targets/tight_boxes": boxes_of_masks(x["targets/masks"]),
            "paste/soft": soft,
            "paste/pasted": soft >= 0.5,
        }
        for key in crops:
            masks, boxes = x["targets/masks"][:, None], x["targets/boxes"][:, None]
            indices = np.zeros(boxes.shape[:2], "int32")
            sizes = np.tile(masks.shape[2:], (masks.shape[0], 1))
            found[key] = crop_masks(masks, sizes, indices, boxes, recording[key].shape[1])[:, 0]
        return found

    inputs = {key: value for key, value in recording.items() if key != "paste/height_width"}
    rows = []
    for key, value in run_compiled(computed, inputs).items():
        if recording[key].dtype == bool:
            wrong = float((value != recording[key]).sum())
            rows.append(Row(key, wrong, 0.0, "wrong pixels"))
        else:
            rows.append(error_row(key, value, recording[key], MAPS))
    return rows
