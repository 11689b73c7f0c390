"""Pixel-wise cross-entropy."""

from keras import ops

from keras_siamim.evaluation.mean_iou import IGNORE
from keras_siamim.segmentation.layers import resize_bilinear
from keras_siamim.types import Tensor


def pixel_cross_entropy(logits: Tensor, labels: Tensor, ignore: int = IGNORE, over_labeled: bool = False) -> Tensor:
    """Return the mean softmax cross-entropy over the pixels of a batch.

    Pixels without a class have loss 0. By default the mean includes them, as in mmsegmentation.

    Args:
        logits: (batch, rows, columns, classes) float. They are resized bilinearly to the labels.
        labels: (batch, height, width) integers in [0, classes), or `ignore`.
        ignore: int. Label of pixels without a class. Defaults to 255.
        over_labeled: bool. Whether the mean is over labeled pixels only. Defaults to False.

    Returns:
        float32 scalar.

    Example:
        >>> labels = np.array([[[0, 255]]])
        >>> round(float(pixel_cross_entropy(np.zeros((1, 1, 2, 2), "float32"), labels)), 4)
        0.3466
    """
    labels = ops.cast(labels, "int32")
    logits = resize_bilinear(ops.cast(logits, "float32"), labels.shape[1:3])
    labeled = ops.not_equal(labels, ignore)
    classes = ops.where(labeled, labels, 0)
    chosen = ops.take_along_axis(logits, classes[..., None], axis=-1)[..., 0]
    entropy = ops.where(labeled, ops.logsumexp(logits, axis=-1) - chosen, 0.0)
    if over_labeled:
        return ops.sum(entropy) / ops.maximum(ops.sum(ops.cast(labeled, "float32")), 1.0)
    return ops.mean(entropy)
