"""Entry point that selects the comparison for a recording."""

import json
import pathlib
from typing import Any

import numpy as np

from keras_siamim.types import PathLike
from keras_siamim.verification import (
    dense_augmentation,
    dense_average_precision,
    dense_boxes,
    dense_masks,
    dense_miou,
    dense_roi_align,
    dense_roi_heads,
    dense_rpn,
    dense_schedules,
    dense_upernet,
    dense_vitdet,
    dense_vitdet_backbone,
    mae,
    moco_v3,
    siamese_im,
    tables,
    vit_classifier,
)
from keras_siamim.verification.report import Row

METHODS = {
    "MAE": mae.replay,
    "MoCoV3": moco_v3.replay,
    "SiameseIM": siamese_im.replay,
    "ViTClassifier": vit_classifier.replay,
}
# Kinds of recordings without `config/method`, which their keys tell.
KINDS = (
    dense_augmentation,
    dense_average_precision,
    dense_boxes,
    dense_masks,
    dense_miou,
    dense_roi_align,
    dense_roi_heads,
    dense_rpn,
    dense_schedules,
    dense_upernet,
    dense_vitdet,
    dense_vitdet_backbone,
)


def replay_recording(path: PathLike) -> list[Row]:
    """Build a recording's model from `config/...`, load its weights, replay its inputs and compare the results.

    Args:
        path: String or path. An `.npz` file, or a JSON file of average precision.

    Returns:
        List of `Row`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is of an unknown kind.
    """
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"`path` must be an existing recording. Received: {str(path)!r}.")
    recording = _read(path)
    if "config/method" not in recording:
        kind = next((kind for kind in KINDS if kind.matches(recording)), tables)
        return kind.replay(recording)
    method = str(recording["config/method"])
    if method not in METHODS:
        raise ValueError(f"`config/method` must be one of {', '.join(METHODS)}. Received: {method!r}.")
    return METHODS[method](recording)


def _read(path: PathLike) -> dict[str, Any]:
    with open(path, "rb") as file:
        if file.read(1) == b"{":
            recording = json.loads(b"{" + file.read())
            if not any(kind.matches(recording) for kind in KINDS):
                raise ValueError(f"`path` must be a recording of a known kind. Received: {str(path)!r}.")
            return recording
    with np.load(path) as file:
        return {key: file[key] for key in file.files}
