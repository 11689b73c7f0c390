"""Comparison with detectron2's operations on boxes."""

import numpy as np
from keras import ops

from keras_siamim.detection.pyramid import FIRST_LEVEL
from keras_siamim.ops.anchors import cell_anchors, grid_anchors
from keras_siamim.ops.boxes import box_levels, clip_boxes, decode_boxes, encode_boxes, nonempty, pairwise_iou
from keras_siamim.ops.matching import match_boxes
from keras_siamim.ops.nms import non_max_suppression
from keras_siamim.verification.program import run_compiled
from keras_siamim.verification.report import Row, relative_error
from keras_siamim.verification.weights import section

# Boxes in pixels; numbers without unit relative to the largest one.
PIXELS, NUMBERS = 1e-2, 1e-4
RPN_THRESHOLDS, HEAD_THRESHOLDS = (0.3, 0.7), (0.5, 0.5)


def matches(recording: dict[str, np.ndarray]) -> bool:
    """Return whether a recording is of operations on boxes.

    Args:
        recording: Dictionary of the recording's arrays.

    Example:
        >>> matches({"matcher/rpn_match": np.zeros(3)})
        True
    """
    return "matcher/rpn_match" in recording


def replay(recording: dict[str, np.ndarray]) -> list[Row]:
    """Compare overlap, clipping, suppression, anchors, the box coder, matching with ties, and levels.

    Args:
        recording: Dictionary of the recording's arrays.

    Returns:
        List of `Row`.
    """
    inputs = {key: value for key, value in recording.items() if value.dtype.kind in "fib"}
    found = run_compiled(lambda x: _computed(x, recording), inputs)
    found |= _anchors(section(recording, "anchors"))
    rows = []
    for name, value in found.items():
        recorded = recording[name]
        if name.startswith("nms/"):
            value = value[value >= 0]
        if recorded.dtype.kind != "f":
            wrong = value.shape != recorded.shape or np.any(value != recorded)
            rows.append(Row(name, float(wrong), 0.0, "1 if any differs"))
        elif name.startswith(("clip/", "anchors/")) or name.endswith("decoded"):
            rows.append(Row(name, float(np.abs(value - recorded).max()), PIXELS, "pixels"))
        else:
            rows.append(Row(name, relative_error(value, recorded), NUMBERS))
    return rows


def _computed(inputs, recording):
    height, width = (float(side) for side in recording["clip/height_width"])
    clipped = clip_boxes(inputs["clip/boxes"], height, width)
    iou = pairwise_iou(inputs["matcher/gt"], inputs["matcher/anchors"])
    truths = np.ones(iou.shape[0], bool)
    found = {
        "iou/values": pairwise_iou(inputs["iou/boxes_1"], inputs["iou/boxes_2"]),
        "clip/clipped": clipped,
        "clip/nonempty": nonempty(clipped),
        "matcher/quality": iou,
        # detectron2's default pyramid has the levels 2 to 5.
        "levels/level": box_levels(inputs["levels/boxes"], num_levels=4) + FIRST_LEVEL,
    }
    for name, valid, thresholds, with_best in (
        ("rpn", truths, RPN_THRESHOLDS, True),
        ("roi", truths, HEAD_THRESHOLDS, False),
        ("empty", np.zeros_like(truths), RPN_THRESHOLDS, True),
    ):
        found[f"matcher/{name}_match"], found[f"matcher/{name}_label"] = match_boxes(iou, valid, thresholds, with_best)
    for name in ("rpn", "roi"):
        weights = recording[f"coder/{name}_weights"].tolist()
        source, deltas = inputs["coder/source"], inputs["coder/deltas"]
        found[f"coder/{name}_encoded"] = encode_boxes(source, inputs["coder/target"], weights)
        sets = [decode_boxes(source, deltas[:, i : i + 4], weights) for i in range(0, deltas.shape[1], 4)]
        found[f"coder/{name}_decoded"] = ops.concatenate(sets, axis=1)
    for name in (key for key in recording if key.startswith("nms/keep_")):
        found[name] = _kept(inputs, name)
    return found


def _kept(inputs, name):
    """Return the kept indices, followed by -1."""
    count = inputs["nms/boxes"].shape[0]
    groups = inputs["nms/classes"][None] if "by_class" in name else None
    threshold = float(name.rpartition("_")[2])
    indices, counts = non_max_suppression(
        inputs["nms/boxes"][None], inputs["nms/scores"][None], threshold, count, groups
    )
    return ops.where(ops.arange(count) < counts[0], indices[0], -1)


def _anchors(recording):
    ratios, strides = recording["aspect_ratios"], recording["strides"].tolist()
    grids = [tuple(grid) for grid in recording["grids"].tolist()]
    cells = [cell_anchors([size], ratios) for size in recording["sizes"].tolist()]
    found, rounded = {}, []
    for level, (cell, grid, stride) in enumerate(zip(cells, grids, strides, strict=True), start=FIRST_LEVEL):
        found[f"anchors/p{level}"] = grid_anchors(cell, grid, stride)
        # torchvision rounds a cell's anchors, and takes strides from the sizes of image and map.
        steps = tuple(side * strides[0] // count for side, count in zip(grids[0], grid, strict=True))
        rounded.append(grid_anchors(np.round(cell), grid, steps))
    found["anchors/torchvision_rounded"] = np.concatenate(rounded)
    several = recording["two_sizes_offset_half"]
    cell = cell_anchors(*_sizes_and_ratios(several))
    index = [rows * columns for rows, columns in grids].index(len(several) // len(cell))
    found["anchors/two_sizes_offset_half"] = grid_anchors(cell, grids[index], strides[index], offset=0.5)
    return found


def _sizes_and_ratios(anchors):
    """Return the sizes and aspect ratios of anchors, which the file does not name."""
    width, height = anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1]
    found = []
    for values in (np.sqrt(width * height), height / width):
        first: dict[float, float] = {}
        for value in values.tolist():
            first.setdefault(round(value, 2), value)
        found.append(list(first.values()))
    return found
