"""Evaluation of a segmenter on images of any size."""

from collections.abc import Callable, Iterable

import keras
import numpy as np
from keras import ops

from keras_siamim.evaluation.features import num_batches
from keras_siamim.evaluation.mean_iou import MeanIoU, SegmentationScores
from keras_siamim.segmentation.layers import resize_bilinear


def label_map_of(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize logits bilinearly and return the class of each pixel.

    Args:
        logits: (rows, columns, classes) float.
        size: (height, width) of the result.

    Returns:
        (height, width) int64. Ties go to the smallest class.

    Example:
        >>> label_map_of(np.array([[[0.0, 1.0], [1.0, 0.0]]], "float32"), (1, 4))
        array([[1, 1, 0, 0]])
    """
    resized = resize_bilinear(ops.convert_to_tensor(logits[None]), size)
    return ops.convert_to_numpy(resized)[0].argmax(axis=-1)


def score_images(
    logits_of: Callable[[np.ndarray], np.ndarray],
    examples: Iterable[tuple[np.ndarray, np.ndarray]],
    num_classes: int,
    ignore: int,
    verbose: int = 0,
) -> SegmentationScores:
    """Segment images one by one and compare them with label maps of their original size.

    Args:
        logits_of: Function from an image (height, width, channels) to logits (rows, columns, num_classes), such as
            `UPerNet.sliding_logits`.
        examples: Iterable of pairs: an image, normalized and possibly resized, and its label map at the original size,
            (height, width) integers.
        num_classes: int. Number of classes.
        ignore: int. Label of pixels without a class.
        verbose: int. 1 shows a progress bar. Defaults to 0.

    Returns:
        `SegmentationScores`, from pixel counts over all images.

    Raises:
        ValueError: If there is no labeled pixel.

    Example:
        >>> examples = [(np.zeros((2, 2, 3)), np.zeros((4, 4), "uint8"))]
        >>> score_images(lambda image: -image[..., :2], examples, num_classes=2, ignore=255).mean_iou
        1.0
    """
    metric = MeanIoU(num_classes, ignore)
    progress = keras.utils.Progbar(num_batches(examples), verbose=verbose, unit_name="image")
    for image, label_map in examples:
        metric.update(label_map, label_map_of(logits_of(image), label_map.shape))
        progress.add(1)
    return metric.scores()
