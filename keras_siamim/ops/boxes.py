"""Boxes of detectors as tensors: corners (x1, y1, x2, y2) in pixels, of shape (..., 4)."""

import math
from collections.abc import Sequence

from keras import ops

from keras_siamim.types import Tensor

# Largest logarithm of a size ratio that is decoded: boxes grow at most from 16 to 1000 pixels.
LARGEST_LOG_RATIO = math.log(1000 / 16)


def _sides(boxes):
    boxes = ops.convert_to_tensor(boxes)
    return boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]


def box_areas(boxes: Tensor) -> Tensor:
    """Return width times height of boxes (..., 4) as (...).

    Example:
        >>> float(box_areas(np.array([1.0, 1.0, 3.0, 6.0])))
        10.0
    """
    width, height = _sides(boxes)
    return width * height


def nonempty(boxes: Tensor) -> Tensor:
    """Return whether boxes (..., 4) have two positive sides, as (...) bool.

    Example:
        >>> nonempty(np.array([[1.0, 1.0, 3.0, 1.0], [0.0, 0.0, 1.0, 1.0]])).numpy().tolist()
        [False, True]
    """
    width, height = _sides(boxes)
    return ops.logical_and(width > 0, height > 0)


def clip_boxes(boxes: Tensor, height: Tensor | float, width: Tensor | float) -> Tensor:
    """Clip boxes to their image.

    Args:
        boxes: (..., 4) float.
        height: float or tensor that broadcasts with (...). Height of the image.
        width: float or tensor that broadcasts with (...). Width of the image.

    Example:
        >>> clip_boxes(np.array([-1.0, 2.0, 9.0, 4.0]), height=3.0, width=8.0).numpy().tolist()
        [0.0, 2.0, 8.0, 3.0]
    """
    boxes, limits = ops.convert_to_tensor(boxes), (width, height, width, height)
    return ops.stack([ops.clip(boxes[..., i], 0.0, limit) for i, limit in enumerate(limits)], axis=-1)


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the intersection over union of each pair of boxes.

    All pairs go through the same plain operations, so that equal overlaps are equal numbers: the matching of anchors
    depends on ties.

    Args:
        boxes: (..., n, 4) float.
        others: (..., m, 4) float.

    Returns:
        (..., n, m) in [0, 1]; 0 for boxes that do not intersect.

    Example:
        >>> pairwise_iou(np.array([[0.0, 0, 2, 2]]), np.array([[0.0, 0, 2, 1], [5, 5, 6, 6]])).numpy().tolist()
        [[0.5, 0.0]]
    """
    boxes = ops.expand_dims(ops.convert_to_tensor(boxes), -2)
    others = ops.expand_dims(ops.convert_to_tensor(others), -3)
    low = ops.maximum(boxes[..., :2], others[..., :2])
    sides = ops.relu(ops.minimum(boxes[..., 2:], others[..., 2:]) - low)
    # The maximum keeps compilers from fusing products and sums, which rounds differently.
    shared = ops.maximum(sides[..., 0] * sides[..., 1], 0.0)
    areas = ops.maximum(box_areas(boxes), 0.0) + ops.maximum(box_areas(others), 0.0)
    return ops.where(shared > 0, shared / ops.where(shared > 0, areas - shared, 1.0), 0.0)


def _centers_and_sides(boxes):
    width, height = _sides(boxes)
    low = ops.convert_to_tensor(boxes)
    return low[..., 0] + 0.5 * width, low[..., 1] + 0.5 * height, width, height


def encode_boxes(boxes: Tensor, targets: Tensor, weights: Sequence[float]) -> Tensor:
    """Return the deltas that lead from boxes to targets (Faster R-CNN, arXiv 1506.01497, equation 2).

    Args:
        boxes: (..., 4) float, with positive sides.
        targets: (..., 4) float, with positive sides.
        weights: Four floats, by which dx, dy, dw and dh are multiplied.

    Returns:
        (..., 4): dx, dy, dw, dh.

    Example:
        >>> box, target = np.array([0.0, 0, 2, 2]), np.array([1.0, 0, 3, 2])
        >>> encode_boxes(box, target, (10, 10, 5, 5)).numpy().tolist()
        [5.0, 0.0, 0.0, 0.0]
    """
    x, y, width, height = _centers_and_sides(boxes)
    target_x, target_y, target_width, target_height = _centers_and_sides(targets)
    deltas = (
        (target_x - x) / width,
        (target_y - y) / height,
        ops.log(target_width / width),
        ops.log(target_height / height),
    )
    return ops.stack([weight * delta for weight, delta in zip(weights, deltas, strict=True)], axis=-1)


def decode_boxes(boxes: Tensor, deltas: Tensor, weights: Sequence[float]) -> Tensor:
    """Return the boxes to which deltas lead, the inverse of `encode_boxes` for size ratios up to 1000 / 16.

    Args:
        boxes: (..., 4) float.
        deltas: (..., 4) float, broadcast against `boxes`: dx, dy, dw, dh.
        weights: Four floats, by which the deltas are divided.

    Returns:
        (..., 4).

    Example:
        >>> decode_boxes(np.array([0.0, 0, 2, 2]), np.array([5.0, 0, 0, 0]), (10, 10, 5, 5)).numpy().tolist()
        [1.0, 0.0, 3.0, 2.0]
    """
    x, y, width, height = _centers_and_sides(boxes)
    deltas = ops.convert_to_tensor(deltas)
    dx, dy, dw, dh = (deltas[..., i] / weight for i, weight in enumerate(weights))
    x, y = x + dx * width, y + dy * height
    half_width = 0.5 * width * ops.exp(ops.minimum(dw, LARGEST_LOG_RATIO))
    half_height = 0.5 * height * ops.exp(ops.minimum(dh, LARGEST_LOG_RATIO))
    return ops.stack([x - half_width, y - half_height, x + half_width, y + half_height], axis=-1)


def box_levels(
    boxes: Tensor, num_levels: int, first_level: int = 2, canonical_size: float = 224, canonical_level: int = 4
) -> Tensor:
    """Return the level of the feature pyramid from which each box is pooled (FPN, arXiv 1612.03144, equation 1).

    Args:
        boxes: (..., 4) float.
        num_levels: int. Number of levels.
        first_level: int. Number of the level with the smallest stride. Defaults to 2.
        canonical_size: float. Side of a square box that is pooled from `canonical_level`. Defaults to 224.
        canonical_level: int. Defaults to 4.

    Returns:
        (...) int32 in [0, num_levels), counted from the first level.

    Example:
        >>> box_levels(np.array([[0.0, 0, 224, 224], [0, 0, 111, 112], [0, 0, 0, 0]]), num_levels=4).numpy().tolist()
        [2, 0, 0]
    """
    ratio = ops.sqrt(ops.maximum(box_areas(boxes), 0.0)) / canonical_size + 1e-8
    # Comparisons in place of floor(log2(...)), which backends round differently at powers of 2.
    limits = (2.0 ** (first_level + index - canonical_level) for index in range(1, num_levels))
    return sum((ops.cast(ratio >= limit, "int32") for limit in limits), ops.zeros_like(ratio, dtype="int32"))
