"""Boxes of evaluation protocols in NumPy: corners (x1, y1, x2, y2), centers (cx, cy, w, h), and overlap."""

import numpy as np

from keras_siamim.types import ArrayLike


def box_iou(boxes: ArrayLike, others: ArrayLike) -> np.ndarray:
    """Return the intersection over union of pairs of boxes.

    Args:
        boxes: (..., 4) numbers, x1, y1, x2, y2. A box with x2 < x1 or y2 < y1 is empty.
        others: (..., 4) numbers, broadcast against `boxes`.

    Returns:
        (...) float64 in [0, 1]; 0 if both boxes are empty.

    Example:
        >>> box_iou([0, 0, 2, 2], [[0, 0, 2, 1], [5, 5, 6, 6]]).tolist()
        [0.5, 0.0]
    """
    boxes, others = np.asarray(boxes, "float64"), np.asarray(others, "float64")
    low, high = np.maximum(boxes[..., :2], others[..., :2]), np.minimum(boxes[..., 2:], others[..., 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(np.maximum(b[..., 2:] - b[..., :2], 0), axis=-1) for b in (boxes, others)]
    union = areas[0] + areas[1] - shared
    return np.where(union > 0, shared / np.where(union > 0, union, 1), 0.0)


def centers_of(boxes: ArrayLike) -> np.ndarray:
    """Convert corners to centers and sizes: (..., 4) x1, y1, x2, y2 to float64 cx, cy, w, h.

    Example:
        >>> centers_of([0, 1, 2, 5]).tolist()
        [1.0, 3.0, 2.0, 4.0]
    """
    low, high = np.split(np.asarray(boxes, "float64"), 2, axis=-1)
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def corners_of(boxes: ArrayLike) -> np.ndarray:
    """Convert centers and sizes to corners: (..., 4) cx, cy, w, h to float64 x1, y1, x2, y2. Negative sizes become 0.

    Example:
        >>> corners_of([1, 3, 2, 4]).tolist()
        [0.0, 1.0, 2.0, 5.0]
    """
    center, size = np.split(np.asarray(boxes, "float64"), 2, axis=-1)
    half = np.maximum(size, 0) / 2
    return np.concatenate([center - half, center + half], axis=-1)
