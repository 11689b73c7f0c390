"""Mean intersection over union of semantic segmentation, over a whole split."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from keras_siamim.types import ArrayLike

# Label of pixels without a class.
IGNORE = 255


class SegmentationScores(NamedTuple):
    """Scores of a split. Classes that occur neither as label nor as prediction have NaN.

    Attributes:
        iou: (classes,) float64. Intersection over union per class. A class that is predicted but never labeled has 0.
        accuracy: (classes,) float64. Share of a class's labeled pixels that are predicted as it; NaN if there are none.
        mean_iou: Float. Mean of `iou` over the classes that occur.
        pixel_accuracy: Float. Share of correctly predicted pixels among the labeled ones.
        mean_accuracy: Float. Mean of `accuracy` over the classes with labels.
    """

    iou: np.ndarray
    accuracy: np.ndarray
    mean_iou: float
    pixel_accuracy: float
    mean_accuracy: float

    def numbers(self) -> dict[str, float]:
        """Return the three means by name, for an `EvaluationResult`."""
        return {
            "miou": self.mean_iou,
            "pixel_accuracy": self.pixel_accuracy,
            "mean_accuracy": self.mean_accuracy,
        }

    def by_class(self, names: tuple[str, ...] = ()) -> Mapping[str, float | None]:
        """Return the IoU per class, None for classes that do not occur.

        Args:
            names: Tuple of strings. Names of the classes. Defaults to their indices.
        """
        keys = names or tuple(map(str, range(len(self.iou))))
        return {key: None if np.isnan(value) else float(value) for key, value in zip(keys, self.iou, strict=True)}


class MeanIoU:
    """Accumulator of pixel counts per class over the images of a split.

    Counts are summed over all images before they are divided; pixels labeled `ignore` do not count.

    Args:
        num_classes: Integer, 1 or more. Number of classes.
        ignore: Integer. Label of pixels without a class. Defaults to 255.

    Attributes:
        intersection: (classes,) int64. Correctly predicted pixels.
        predicted: (classes,) int64. Predicted pixels.
        labeled: (classes,) int64. Labeled pixels.

    Raises:
        ValueError: If `num_classes` is below 1, or `ignore` is a class.

    Example:
        >>> metric = MeanIoU(num_classes=2)
        >>> metric.update([0, 0, 1, 255], [0, 1, 1, 1])
        >>> metric.scores().mean_iou
        0.5
    """

    def __init__(self, num_classes: int, ignore: int = IGNORE):
        if num_classes < 1:
            raise ValueError(f"`num_classes` must be 1 or more. Received: {num_classes}.")
        if 0 <= ignore < num_classes:
            raise ValueError(f"`ignore` must be no class, outside [0, {num_classes}). Received: {ignore}.")
        self.num_classes = num_classes
        self.ignore = ignore
        self.intersection = np.zeros(num_classes, "int64")
        self.predicted = np.zeros(num_classes, "int64")
        self.labeled = np.zeros(num_classes, "int64")

    def update(self, labels: ArrayLike, predictions: ArrayLike) -> None:
        """Count the pixels of one or more images.

        Args:
            labels: Integers in [0, num_classes), or `ignore`.
            predictions: Integers in [0, num_classes), of the same shape.

        Raises:
            ValueError: If the shapes differ, or a value is out of its range.
        """
        true, found = np.asarray(labels), np.asarray(predictions)
        if true.shape != found.shape:
            raise ValueError(f"`predictions` must have the shape of `labels`, {true.shape}. Received: {found.shape}.")
        counted = true != self.ignore
        true, found = true[counted], found[counted]
        for name, values in (("labels", true), ("predictions", found)):
            if values.size and not 0 <= values.min() <= values.max() < self.num_classes:
                raise ValueError(
                    f"`{name}` must be in [0, {self.num_classes}). Received: values in [{values.min()}, "
                    f"{values.max()}]."
                )
        for total, values in (
            (self.labeled, true),
            (self.predicted, found),
            (self.intersection, true[true == found]),
        ):
            total += np.bincount(values, minlength=self.num_classes)

    def scores(self) -> SegmentationScores:
        """Return the scores of all images so far.

        Raises:
            ValueError: If no labeled pixel was counted.
        """
        if not self.labeled.sum():
            raise ValueError("`labels` must hold pixels with a class. Received: none, or ignored pixels only.")
        union = self.predicted + self.labeled - self.intersection
        with np.errstate(invalid="ignore"):
            iou, accuracy = self.intersection / union, self.intersection / self.labeled
        return SegmentationScores(
            iou,
            accuracy,
            float(np.nanmean(iou)),
            float(self.intersection.sum() / self.labeled.sum()),
            float(np.nanmean(accuracy)),
        )
