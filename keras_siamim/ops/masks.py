"""Masks of instances: cut out by boxes for training, pasted into images afterwards, and the boxes around them."""

from keras import ops

from keras_siamim.ops.roi_align import axis_weights
from keras_siamim.types import Tensor


def crop_masks(masks: Tensor, sizes: Tensor, indices: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut masks out by boxes, the targets of a mask head (detectron2's targets of bitmaps).

    A pixel of the result is set if RoIAlign of the mask is 0.5 or more. Boxes are processed one by one, so that memory
    does not grow with their number.

    Args:
        masks: (batch, masks, height, width) bool or 0 and 1.
        sizes: (batch, 2) integers. Height and width of the images, without padding. Beyond them masks count as their
            last row and column for half a pixel, and then as 0.
        indices: (batch, n) integers. Mask of each box.
        boxes: (batch, n, 4) float32, in pixels of the masks.
        size: int. Rows and columns of the result.

    Returns:
        (batch, n, size, size) bool.

    Example:
        >>> mask = np.array([[[[1, 0], [1, 0]]]])
        >>> boxes = np.array([[[0.0, 0, 2, 2]]], "float32")
        >>> crop_masks(mask, np.array([[2, 2]]), np.array([[0]]), boxes, size=2).numpy().tolist()
        [[[[True, False], [True, False]]]]
    """
    count, height, width = masks.shape[1:]
    masks = ops.reshape(masks, (-1, height, width))
    last = ops.cast(sizes, "float32") - 1
    first = ops.arange(ops.shape(boxes)[0], dtype="int32") * count

    def crop(entry):
        index, box = entry
        mask = ops.cast(ops.take(masks, first + index, axis=0), "float32")
        y, x = ((0.0, last[:, axis], 1.0) for axis in range(2))
        weights_y = axis_weights(box[:, 1] - 0.5, box[:, 3] - box[:, 1], size, height, bounds=y)
        weights_x = axis_weights(box[:, 0] - 0.5, box[:, 2] - box[:, 0], size, width, bounds=x)
        return ops.matmul(ops.matmul(weights_y, mask), ops.swapaxes(weights_x, 1, 2)) >= 0.5

    indices, boxes = ops.cast(indices, "int32"), ops.cast(boxes, "float32")
    return ops.swapaxes(ops.map(crop, (ops.swapaxes(indices, 0, 1), ops.swapaxes(boxes, 0, 1))), 0, 1)


def paste_masks(probabilities: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """Resize masks to their boxes in an image, bilinearly; 0 outside.

    Args:
        probabilities: (n, rows, columns) float, in [0, 1].
        boxes: (n, 4) float32 in pixels, with positive sides.
        height: int. Height of the image.
        width: int. Width of the image.

    Returns:
        (n, height, width) float32. A pixel belongs to the instance if it is 0.5 or more.

    Example:
        >>> paste_masks(np.ones((1, 2, 2)), np.array([[1.0, 0, 3, 1]]), height=1, width=4).numpy().tolist()
        [[[0.0, 1.0, 1.0, 0.0]]]
    """
    boxes = ops.cast(boxes, "float32")

    def weights(low, high, cells, pixels):
        centers = ops.arange(pixels, dtype="float32") + 0.5
        places = (centers - low[:, None]) / (high - low)[:, None] * cells - 0.5
        return ops.relu(1 - ops.abs(places[..., None] - ops.arange(cells, dtype="float32")))

    probabilities = ops.cast(probabilities, "float32")
    weights_y = weights(boxes[:, 1], boxes[:, 3], probabilities.shape[1], height)
    weights_x = weights(boxes[:, 0], boxes[:, 2], probabilities.shape[2], width)
    return ops.matmul(ops.matmul(weights_y, probabilities), ops.swapaxes(weights_x, 1, 2))


def boxes_of_masks(masks: Tensor) -> Tensor:
    """Return the tight boxes around masks.

    Args:
        masks: (..., height, width) bool or 0 and 1.

    Returns:
        (..., 4) float32: x1, y1, x2, y2, where x2 and y2 are the last column and row plus 1; zeros for empty masks.

    Example:
        >>> boxes_of_masks(np.array([[0, 0, 0], [0, 1, 1]])).numpy().tolist()
        [1.0, 1.0, 3.0, 2.0]
    """
    masks = ops.cast(masks, "bool")
    ends = []
    for axis in (-2, -1):
        used = ops.cast(ops.any(masks, axis=axis), "int32")
        last = used.shape[-1] - ops.argmax(ops.flip(used, axis=-1), axis=-1)
        ends.append((ops.argmax(used, axis=-1), ops.where(ops.any(used, axis=-1), last, 0)))
    (x1, x2), (y1, y2) = ends
    return ops.stack([ops.cast(end, "float32") for end in (x1, y1, x2, y2)], axis=-1)
