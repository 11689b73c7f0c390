"""Detections in pixels of the stored images."""

import numpy as np
from keras import ops

from keras_siamim.ops.boxes import clip_boxes, nonempty
from keras_siamim.ops.masks import paste_masks
from keras_siamim.types import ArrayLike, Tensor


def in_original_pixels(detections: dict[str, Tensor], sizes: Tensor, original_sizes: Tensor) -> dict[str, Tensor]:
    """Scale the boxes of detections to the stored images, clip them, and drop those that are empty.

    Args:
        detections: Dictionary of `detection.regions.RegionHeads.detect`.
        sizes: (batch, 2) integers. Height and width of the resized images, without padding.
        original_sizes: (batch, 2) integers. Height and width of the stored images.

    Returns:
        The dictionary with new values.
    """
    sizes, original_sizes = (ops.cast(value, "float32") for value in (sizes, original_sizes))
    scale = ops.flip(original_sizes / sizes, axis=1)
    boxes = detections["boxes"] * ops.concatenate([scale, scale], axis=1)[:, None]
    boxes = clip_boxes(boxes, original_sizes[:, :1], original_sizes[:, 1:])
    # Padding is empty too.
    kept = nonempty(boxes)
    order = ops.argsort(ops.cast(ops.logical_not(kept), "int32"), axis=1)
    kept = ops.take_along_axis(kept, order, axis=1)
    found = {}
    for name, value in {**detections, "boxes": boxes}.items():
        if name != "counts":
            extra = (None,) * (len(value.shape) - 2)
            value = ops.take_along_axis(value, order[(..., *extra)], axis=1)
            found[name] = ops.where(kept[(..., *extra)], value, -1 if name == "classes" else 0)
    return {**found, "counts": ops.sum(ops.cast(kept, "int32"), axis=1)}


def image_masks(masks: ArrayLike, boxes: ArrayLike, height: int, width: int) -> np.ndarray:
    """Return the masks of the detections of an image, at its size.

    Masks are pasted one by one, so that memory does not grow beyond that of the result.

    Args:
        masks: (detections, rows, columns) float, probabilities.
        boxes: (detections, 4) float, in pixels of the image.
        height: int. Height of the image.
        width: int. Width of the image.

    Returns:
        (detections, height, width) bool.

    Example:
        >>> from keras_siamim.detection import image_masks
        >>> image_masks(np.ones((1, 28, 28)), [[1, 0, 3, 1]], height=1, width=4).tolist()
        [[[False, True, True, False]]]
    """
    masks, boxes = np.asarray(masks, "float32"), np.asarray(boxes, "float32")
    pasted = np.zeros((len(masks), height, width), bool)
    for index in range(len(masks)):
        one = slice(index, index + 1)
        pasted[one] = ops.convert_to_numpy(paste_masks(masks[one], boxes[one], height, width)) >= 0.5
    return pasted
