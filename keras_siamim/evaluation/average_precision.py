"""Average precision of detections, as COCO and LVIS measure it.

`faster-coco-eval` computes all numbers.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_siamim import files
from keras_siamim.data.instance_masks import encode_mask, mask_tools, valid_segmentation
from keras_siamim.types import ArrayLike, PathLike

# Detections per image that count.
COCO_DETECTIONS = 100
LVIS_DETECTIONS = 300
_SIZES = ("small", "medium", "large")
# Field of a detection that is compared. The other one is removed, so that it does not decide over sizes.
_FIELDS = {"bbox": "bbox", "segm": "segmentation"}


@dataclasses.dataclass(frozen=True)
class AveragePrecision:
    """Average precision and recall of detections.

    Attributes:
        kind: String. `"bbox"` for boxes or `"segm"` for masks.
        numbers: Mapping from names to fractions in [0, 1], or -1 if no object counts for a number. `AP` is the mean
            over IoU thresholds from 0.5 to 0.95; `AP50`, `AP75`, `AP_small`, `AP_medium` and `AP_large` follow. LVIS
            adds `AP_rare`, `AP_common` and `AP_frequent`. `AR100` is the recall with 100 detections per image; others
            have other limits, or sizes.
        by_category: Mapping from the id of each category to its AP, or -1.
    """

    kind: str
    numbers: Mapping[str, float]
    by_category: Mapping[int, float]


def average_precision(
    truth: Mapping[str, Sequence[Mapping[str, Any]]],
    detections: Sequence[Mapping[str, Any]],
    kind: str = "bbox",
    lvis: bool = False,
) -> AveragePrecision:
    """Compare detections with annotations.

    Args:
        truth: Annotations in the format of COCO or LVIS, from `sources.ground_truth` or a JSON file: `images`,
            `annotations` and `categories`.
        detections: Sequence of dictionaries in the format of COCO, from `image_detections` or a JSON file: `image_id`,
            `category_id`, `score`, and `bbox` or `segmentation`.
        kind: String. `"bbox"` to compare boxes or `"segm"` to compare masks, whose areas decide over sizes. Defaults to
            `"bbox"`.
        lvis: Whether to follow LVIS: 300 detections per image over all classes, classes without a verdict for an image
            ignored, and numbers by frequency. Defaults to `False`: COCO, 100 detections per image and class.

    Returns:
        `AveragePrecision`.

    Raises:
        ImportError: If `faster-coco-eval` is not installed.
        ValueError: If `kind` is unknown; a detection has an unknown image or category or lacks a field; masks
            are compared and an annotation has none; or `lvis` is true and a category has no frequency.
    """
    if kind not in _FIELDS:
        raise ValueError(f"`kind` must be 'bbox' or 'segm'. Received: {kind!r}.")
    mask_tools()  # its error says how to install the library
    from faster_coco_eval import COCO, COCOeval_faster

    # The library writes into the dictionaries.
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    annotations = [_complete(annotation, kind, sizes[annotation["image_id"]]) for annotation in truth["annotations"]]
    copied = {"images": list(map(dict, truth["images"])), "categories": list(map(dict, truth["categories"]))}
    if lvis and not all("frequency" in category for category in copied["categories"]):
        raise ValueError("`truth` must have a frequency per category for LVIS. Received: categories without it.")
    found = [_checked(detection, kind) for detection in detections]
    for field, entries in (("image_id", "images"), ("category_id", "categories")):
        if unknown := {detection[field] for detection in found} - {entry["id"] for entry in copied[entries]}:
            raise ValueError(f"`detections` must have ids of `truth`. Received: {field} {min(unknown)}.")
    expected = COCO({**copied, "annotations": annotations})
    evaluation = COCOeval_faster(expected, expected.loadRes(_best(found) if lvis else found), kind, lvis_style=lvis)
    limits = evaluation.params.maxDets = [LVIS_DETECTIONS] if lvis else [1, 10, COCO_DETECTIONS]
    evaluation.run()

    # LVIS has places for three limits, too.
    recalls = [f"AR{limit}" for limit in limits] + [""] * (3 - len(limits))
    names = ["AP", "AP50", "AP75", *(f"AP_{size}" for size in _SIZES), *recalls, *(f"AR_{size}" for size in _SIZES)]
    names += ["", "", *(["AP_rare", "AP_common", "AP_frequent"] if lvis else [])]
    values = evaluation.stats_as_dict.values()
    numbers = {name: float(value) for name, value in zip(names, values, strict=True) if name}
    # Thresholds, recalls, categories, sizes, limits.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    by_category = {
        int(number): float(of_class[of_class > -1].mean()) if (of_class > -1).any() else -1.0
        for number, of_class in zip(evaluation.params.catIds, np.moveaxis(precision, 2, 0), strict=True)
    }
    return AveragePrecision(kind, numbers, by_category)


def _complete(annotation: Mapping[str, Any], kind: str, size: tuple[int, int]) -> dict[str, Any]:
    _, _, width, height = annotation["bbox"]
    complete = {"iscrowd": 0, "area": width * height, **annotation}
    if kind == "segm":
        try:
            complete["segmentation"] = valid_segmentation(annotation.get("segmentation"), *size)
        except ValueError as error:
            raise ValueError(
                f"`truth` must have a valid segmentation per annotation. Received: annotation {annotation['id']} with "
                f"{error}."
            ) from None
    return complete


def _checked(detection: Mapping[str, Any], kind: str) -> dict[str, Any]:
    needed = ("image_id", "category_id", "score", _FIELDS[kind])
    if missing := [field for field in needed if field not in detection]:
        raise ValueError(f"`detections` must have {', '.join(needed)}. Received: one without {', '.join(missing)}.")
    return {field: detection[field] for field in needed}


def _best(detections: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the detections that LVIS counts: those of each image with the highest scores."""
    of_image: dict[int, list[dict[str, Any]]] = {}
    for detection in detections:
        of_image.setdefault(detection["image_id"], []).append(detection)
    ranked = (sorted(found, key=lambda detection: -detection["score"]) for found in of_image.values())
    return [detection for found in ranked for detection in found[:LVIS_DETECTIONS]]


def image_detections(
    image_id: int,
    boxes: ArrayLike,
    scores: ArrayLike,
    classes: ArrayLike,
    category_ids: Sequence[int],
    masks: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Return the detections of an image in the format of COCO.

    Args:
        image_id: Integer. Id of the image.
        boxes: (detections, 4) floats: x1, y1, x2, y2 in pixels of the stored image.
        scores: (detections,) floats in [0, 1].
        classes: (detections,) integers. Classes from 0; those below 0 are padding, which is left out.
        category_ids: Sequence of integers. Id of each class.
        masks: (detections, height, width) array of 0 and 1, or `None`. Defaults to `None`.

    Returns:
        List of dictionaries of JSON types: `image_id`, `category_id`, `bbox` (x, y, width, height), `score`, and
        `segmentation` where there are masks.

    Raises:
        ImportError: If there are masks, and `faster-coco-eval` is not installed.

    Example:
        >>> image_detections(7, [[1, 2, 4, 6], [0, 0, 0, 0]], [0.5, 0.0], [0, -1], category_ids=[90])
        [{'image_id': 7, 'category_id': 90, 'bbox': [1.0, 2.0, 3.0, 4.0], 'score': 0.5}]
    """
    corners = np.asarray(boxes, "float64").reshape(-1, 4)
    sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
    columns = (sides, np.asarray(scores, "float64").tolist(), np.asarray(classes).tolist())
    found = []
    for row, (box, score, label) in enumerate(zip(*columns, strict=True)):
        if label < 0:
            continue
        detection = {"image_id": int(image_id), "category_id": int(category_ids[label]), "bbox": box, "score": score}
        if masks is not None:
            detection["segmentation"] = encode_mask(masks[row])
        found.append(detection)
    return found


def write_detections(path: PathLike, detections: Sequence[Mapping[str, Any]]) -> None:
    """Write detections as a JSON file in the format of COCO, which appears complete or not at all.

    Args:
        path: Path of the file, in an existing folder.
        detections: Sequence of dictionaries, from `image_detections`.

    Raises:
        OSError: If the file can't be written.
    """
    with files.write_atomically(path) as file:
        file.write(json.dumps(list(detections), separators=(",", ":")).encode())
