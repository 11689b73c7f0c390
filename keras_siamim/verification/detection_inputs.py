"""Inputs and settings of a detector from a recording."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_siamim.detection import DetectorSettings
from keras_siamim.verification.report import Row, relative_error
from keras_siamim.verification.weights import section

# Names of settings in recordings; `positive_fraction` and `nms_threshold` have one meaning per kind of recording.
_SETTINGS = {
    "anchor_sizes": "anchor_sizes",
    "aspect_ratios": "aspect_ratios",
    "anchors_sampled": "anchors_sampled",
    "pre_nms_train": "pre_nms_train",
    "pre_nms_test": "pre_nms_test",
    "post_nms_train": "post_nms_train",
    "post_nms_test": "post_nms_test",
    "pyramid_channels": "pyramid_width",
    "head_width": "head_width",
    "fc_width": "dense_width",
    "rois_sampled": "regions_sampled",
    "canonical_size": "canonical_size",
    "canonical_level": "canonical_level",
    "score_threshold": "score_threshold",
    "detections": "detections",
    "sigmoid": "sigmoid",
}


def maps_as_weights(
    model: keras.Model, recording: dict[str, np.ndarray]
) -> tuple[list[str], list[keras.Variable], list[int]]:
    """Add the maps of a recording to a model as weights, so that they have gradients too.

    Args:
        model: Keras model.
        recording: Dictionary of the recording's arrays, with `features/pN` of stride 2**N.

    Returns:
        The names of the levels, their variables, and their strides.
    """
    features = section(recording, "features")
    levels = sorted(features)
    maps = [model.add_weight(shape=features[level].shape, name=level) for level in levels]
    for variable, level in zip(maps, levels, strict=True):
        variable.assign(features[level])
    return levels, maps, [2 ** int(level[1:]) for level in levels]


def settings_of(config: dict[str, Any], **names: str) -> DetectorSettings:
    """Return the settings of a recording; what it does not name has detectron2's default.

    Args:
        config: Dictionary of the recording's settings.
        **names: Names of further settings by their names in the recording.

    Example:
        >>> settings_of({"detections": 12, "nms_threshold": 0.6}, nms_threshold="nms_threshold").detections
        12
    """
    return DetectorSettings(**{name: config[key] for key, name in {**_SETTINGS, **names}.items() if key in config})


def padded(arrays: Sequence[np.ndarray], fill: float = 0) -> np.ndarray:
    """Stack arrays of different shapes, padded at their ends.

    Args:
        arrays: Sequence of arrays of one dtype and number of axes.
        fill: Number. The padding. Defaults to 0.

    Example:
        >>> padded([np.ones(1, int), np.zeros(0, int)], fill=-1).tolist()
        [[1], [-1]]
    """
    shape = np.max([array.shape for array in arrays], axis=0)
    result = np.full((len(arrays), *shape), fill, arrays[0].dtype)
    for row, array in zip(result, arrays, strict=True):
        row[tuple(slice(0, side) for side in array.shape)] = array
    return result


def truth_of(recording: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the objects of all images: `boxes`, `classes` padded with -1 and, if recorded, `masks`.

    Args:
        recording: Dictionary of the recording's arrays.

    Example:
        >>> truth_of({"truth0/boxes": np.zeros((0, 4)), "truth0/classes": np.zeros(0, int)})["classes"].tolist()
        [[-1]]
    """
    images = range(count_of(recording, "truth"))
    names = [name for name in ("boxes", "classes", "masks") if f"truth0/{name}" in recording]
    truth = {
        name: padded([recording[f"truth{image}/{name}"] for image in images], -1 if name == "classes" else 0)
        for name in names
    }
    if not truth["classes"].shape[1]:  # at least one object, of padding
        truth = {
            name: np.full((len(x), 1, *x.shape[2:]), -1 if name == "classes" else 0, x.dtype)
            for name, x in truth.items()
        }
    return {**truth, "classes": truth["classes"].astype("int32")}


def count_of(recording: dict[str, np.ndarray], prefix: str) -> int:
    """Return the number of images, from keys such as `truth0/...` with the prefix `truth`.

    Args:
        recording: Dictionary of the recording's arrays.
        prefix: String.

    Example:
        >>> count_of({"truth0/boxes": np.zeros(0), "truth1/boxes": np.zeros(0)}, "truth")
        2
    """
    numbers = {key.partition("/")[0].removeprefix(prefix) for key in recording if key.startswith(prefix)}
    return sum(number.isdigit() for number in numbers)


def priorities_of(recording: dict[str, np.ndarray], prefix: str, before: int | None = None, gap: int = 0) -> np.ndarray:
    """Return random numbers that lead to the recorded samples.

    Args:
        recording: Dictionary of the recording's arrays.
        prefix: String. The samples of image 0 are `{prefix}0/sampled_positive` and `{prefix}0/sampled_negative`.
        before: Integer. Number of proposals of this model, padding included. The recording's candidates are its
            proposals, without padding, and then the objects. Defaults to None: no proposals.
        gap: Integer. Largest number of objects per image. Defaults to 0.

    Returns:
        (images, candidates) float32.
    """
    rows = []
    for image in range(count_of(recording, prefix)):
        total = len(recording[f"{prefix}{image}/labels"])
        size = total if before is None else before + gap
        row = np.zeros(size, "float32")
        for kind in ("positive", "negative"):
            indices = recording[f"{prefix}{image}/sampled_{kind}"]
            if before is not None:
                proposals = total - len(recording[f"truth{image}/boxes"])
                indices = np.where(indices < proposals, indices, indices - proposals + before)
            row[indices] = np.linspace(1, 0.5, len(indices), dtype="float32")
        rows.append(row)
    return np.stack(rows)


def pixel_row(name: str, value: np.ndarray, recorded: np.ndarray, tolerance: float = 1e-2) -> Row:
    """Return the row of the largest error of boxes, in pixels.

    Args:
        name: String. Name of the quantity.
        value: Array.
        recorded: Array.
        tolerance: Float. Largest error that passes. Defaults to 1e-2.

    Example:
        >>> pixel_row("boxes", np.ones((1, 4)), np.ones((1, 4))).passed
        True
    """
    return Row(name, relative_error(value, recorded, 1.0), tolerance, "pixels")


def equal_row(name: str, value: np.ndarray, recorded: np.ndarray) -> Row:
    """Return the row of the number of entries that differ, which must be 0.

    Args:
        name: String. Name of the quantity.
        value: Array.
        recorded: Array.

    Example:
        >>> equal_row("labels", np.ones(3), np.zeros(3)).error
        3.0
    """
    wrong = np.sum(value != recorded) if value.shape == recorded.shape else np.inf
    return Row(name, float(wrong), 0.0, "entries differ")


def detection_rows(found: dict[str, np.ndarray], image: int, recorded: dict[str, np.ndarray], name: str) -> list[Row]:
    """Compare the detections of an image: boxes, scores, classes and, if recorded, masks.

    Args:
        found: Dictionary of the batch's detections.
        image: Integer. Position in the batch.
        recorded: Dictionary of the image's recorded detections.
        name: String. First part of each row's title.
    """
    count = found["counts"][image]
    rows = [equal_row(f"{name}/classes", found["classes"][image, :count], recorded["classes"])]
    if not rows[0].passed:
        return rows
    rows.append(pixel_row(f"{name}/boxes", found["boxes"][image, :count], recorded["boxes"]))
    rows.append(Row(f"{name}/scores", relative_error(found["scores"][image, :count], recorded["scores"]), 1e-4))
    if "masks" in found and recorded["masks"].dtype != bool:
        masks = found["masks"][image, :count]
        rows.append(Row(f"{name}/masks", relative_error(masks, recorded["masks"]), 1e-4))
    return rows
