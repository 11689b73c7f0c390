"""Instance masks from COCO's segmentations: lists of polygons, and run-length encodings, compressed or not.

`faster-coco-eval` fills polygons and decodes run lengths, as COCO's own tools do, so masks and scores agree with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from keras_siamim.types import ArrayLike

# Numbers of the smallest polygon, a triangle.
_TRIANGLE = 6


def mask_tools() -> ModuleType:
    """Return the module `faster_coco_eval.mask`.

    Raises:
        ImportError: If `faster-coco-eval` is not installed. The message says how to install it.
    """
    try:
        from faster_coco_eval import mask
    except ImportError as error:
        raise ImportError(
            "Instance masks and average precision need `faster-coco-eval`: pip install 'keras-siamim[evaluation]'"
        ) from error
    return mask


def valid_segmentation(segmentation: Any, height: int, width: int) -> Any:
    """Return a segmentation without its invalid polygons.

    Args:
        segmentation: List of polygons, each a list x, y, x, y, ... of at least three points in pixels; or dictionary
            with `size`, the image's (height, width), and `counts`, lengths of runs of 0 and 1 along the columns, a list
            of integers or COCO's compressed string.
        height: Integer. Height of the image in pixels.
        width: Integer. Width of the image in pixels.

    Returns:
        The segmentation, as in COCO. Polygons may exceed the image, by less than its width and height.

    Raises:
        ValueError: If no polygon is valid, or the run lengths are not. The message is the reason.

    Example:
        >>> valid_segmentation([[0, 0, 4, 0, 4, 4], [0, 0, 4, 0]], 8, 8)
        [[0, 0, 4, 0, 4, 4]]
    """
    if isinstance(segmentation, list) and segmentation:
        reasons = [_invalid_polygon(polygon, height, width) for polygon in segmentation]
        if all(reasons):
            raise ValueError(reasons[0])
        return [polygon for polygon, reason in zip(segmentation, reasons, strict=True) if reason is None]
    if not isinstance(segmentation, dict):
        raise ValueError("no polygons or run lengths")
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list | tuple) or list(size) != [height, width]:
        raise ValueError(f"run lengths for the size {size}")
    if isinstance(counts, list):
        whole = all(isinstance(count, int) and count >= 0 for count in counts)
        if not whole or sum(counts) != height * width:
            raise ValueError("run lengths that do not add up to the image")
    elif isinstance(counts, str | bytes):
        try:
            mask_tools().decode(segmentation)
        except (ValueError, RuntimeError):
            raise ValueError("a malformed string of run lengths") from None
    else:
        raise ValueError("no run lengths")
    return segmentation


def _invalid_polygon(polygon: Any, height: int, width: int) -> str | None:
    if not isinstance(polygon, list) or not all(isinstance(x, int | float) for x in polygon):
        return "a polygon that is no list of numbers"
    if len(polygon) < _TRIANGLE or len(polygon) % 2:
        return f"a polygon of {len(polygon)} numbers"
    # The time to fill a polygon grows with its size, and never ends for NaN.
    if not all(map(math.isfinite, polygon)) or not (
        -width < min(polygon[::2]) <= max(polygon[::2]) < 2 * width
        and -height < min(polygon[1::2]) <= max(polygon[1::2]) < 2 * height
    ):
        return "a polygon far outside its image"
    return None


def decode_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Return the mask of a segmentation.

    Args:
        segmentation: From `valid_segmentation`.
        height: Integer. Height of the image in pixels.
        width: Integer. Width of the image in pixels.

    Returns:
        (height, width) uint8: 1 inside, 0 outside. Several polygons are united.

    Raises:
        ImportError: If `faster-coco-eval` is not installed.
    """
    tools = mask_tools()
    if isinstance(segmentation, list):
        segmentation = tools.merge(tools.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = tools.frPyObjects(segmentation, height, width)
    return tools.decode(segmentation)


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Return the compressed run lengths of a mask, for JSON.

    Args:
        mask: (height, width) array of 0 and 1, or booleans.

    Returns:
        A dictionary of `size`, [height, width], and `counts`, a string.

    Raises:
        ImportError: If `faster-coco-eval` is not installed.
    """
    encoded = mask_tools().encode(np.asfortranarray(mask, "uint8"))
    return {"size": list(map(int, encoded["size"])), "counts": encoded["counts"].decode("ascii")}


def masks_in_window(
    segmentations: Sequence[Any],
    size: Sequence[int],
    flip: bool,
    resized: Sequence[int],
    window: Sequence[int],
) -> np.ndarray:
    """Return the masks of an image that was flipped, resized and cropped.

    Polygons are moved and filled at the new size. Run lengths are decoded, and the nearest pixel is taken.

    Args:
        segmentations: Sequence of segmentations, from `valid_segmentation`.
        size: (height, width) of the stored image in pixels.
        flip: Whether the image is flipped horizontally, before anything else.
        resized: (height, width) of the resized image.
        window: (top, left, height, width) of the crop of the resized image.

    Returns:
        (objects, window height, window width) uint8.

    Raises:
        ImportError: If `faster-coco-eval` is not installed.
    """
    (height, width), (top, left, rows, columns) = size, window
    factors = np.array([resized[1] / width, resized[0] / height])
    # Centers of the pixels of the window, in the image before resizing.
    row_ids = np.floor((np.arange(top, top + rows) + 0.5) / factors[1]).astype("int64")
    column_ids = np.floor((np.arange(left, left + columns) + 0.5) / factors[0]).astype("int64")
    column_ids = width - 1 - column_ids if flip else column_ids

    def moved(polygon):
        points = np.array(polygon, "float64").reshape(-1, 2)
        points = [width, 0] + points * [-1, 1] if flip else points
        return (points * factors - [left, top]).ravel().tolist()

    masks = np.zeros((len(segmentations), rows, columns), "uint8")
    for mask, segmentation in zip(masks, segmentations, strict=True):
        if isinstance(segmentation, list):
            mask[:] = decode_mask([moved(polygon) for polygon in segmentation], rows, columns)
        else:
            mask[:] = decode_mask(segmentation, height, width)[np.ix_(row_ids, column_ids)]
    return masks


def boxes_of_masks(masks: ArrayLike) -> np.ndarray:
    """Return the boxes around masks (ViTDet, arXiv 2203.16527).

    Args:
        masks: (objects, height, width) array, not 0 inside.

    Returns:
        (objects, 4) float32: x1, y1, x2, y2 from the first pixel to one after the last; zeros for an empty mask.

    Example:
        >>> boxes_of_masks([[[0, 1, 1], [0, 0, 1]], [[0, 0, 0], [0, 0, 0]]]).tolist()
        [[1.0, 0.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]]
    """
    corners = []
    for axis in (1, 2):  # any row of each column, any column of each row
        found = np.any(masks, axis=axis)
        corners.append(np.where(found.any(axis=1), found.argmax(axis=1), 0))
        corners.append(np.where(found.any(axis=1), found.shape[1] - found[:, ::-1].argmax(axis=1), 0))
    return np.stack([corners[0], corners[2], corners[1], corners[3]], axis=1).astype("float32")
