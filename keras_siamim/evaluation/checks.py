"""Argument checks that the protocols share."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_siamim.types import ArrayLike

_VALUES_PER_CHECK = 1 << 26  # bounds the memory of the check when the features are a memory map


def check_features(features: ArrayLike, argument: str) -> np.ndarray:
    """Return `features` as an array after checking that it is a finite, non-empty matrix of floats.

    Args:
        features: (images, width) floats. A memory map stays a memory map.
        argument: String. Name of the argument in error messages.

    Returns:
        (images, width) array, the same object if `features` already is an array.

    Raises:
        ValueError: If the rank is not 2, there is no row or no column, or a value is NaN or infinite.

    Example:
        >>> check_features([[1.0, 2.0]], "features").shape
        (1, 2)
    """
    features = features if isinstance(features, np.ndarray) else np.asarray(features)
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"`{argument}` must be a non-empty (images, width) array. Received: shape {features.shape}.")
    if not np.issubdtype(features.dtype, np.floating):
        raise ValueError(f"`{argument}` must hold floats. Received: dtype {features.dtype}.")
    rows = max(1, _VALUES_PER_CHECK // features.shape[1])
    for start in range(0, len(features), rows):
        bad = ~np.all(np.isfinite(features[start : start + rows]), axis=1)
        if bad.any():
            raise ValueError(
                f"`{argument}` must be finite. Received: NaN or infinity in {int(bad.sum())} of the rows {start} to "
                f"{start + len(bad) - 1}, the first being row {start + int(bad.argmax())}."
            )
    return features


def check_labels(labels: ArrayLike, count: int, argument: str, num_classes: int | None = None) -> np.ndarray:
    """Return `labels` as an int64 vector after checking its length and range.

    Args:
        labels: (images,) integers in [0, num_classes).
        count: Integer. Number of images.
        argument: String. Name of the argument in error messages.
        num_classes: Integer or `None`. Number of classes; `None` only checks that no label is negative. Defaults to
            `None`.

    Returns:
        (images,) int64.

    Raises:
        ValueError: If `labels` does not hold `count` integers in the range.

    Example:
        >>> check_labels([0, 2], count=2, argument="labels", num_classes=3)
        array([0, 2])
    """
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise ValueError(f"`{argument}` must hold one label per image, shape ({count},). Received: {labels.shape}.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"`{argument}` must hold integers. Received: dtype {labels.dtype}.")
    if labels.min() < 0 or (num_classes is not None and labels.max() >= num_classes):
        allowed = "0 or more" if num_classes is None else f"in [0, {num_classes})"
        raise ValueError(f"`{argument}` must be {allowed}. Received: values in [{labels.min()}, {labels.max()}].")
    return labels.astype(np.int64)


def first_batch(batches: Iterable[Any], argument: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the first batch of a split, which stays complete for its later use.

    Args:
        batches: Iterable of (inputs, labels).
        argument: String. Name of the argument in error messages.

    Returns:
        Two arrays, inputs (batch, ...) and labels (batch, ...).

    Raises:
        ValueError: If there is no batch, the batch is empty, or `batches` is an iterator, which would lose the batch.

    Example:
        >>> first_batch([(np.zeros((2, 4)), [0, 1])], "test")[1]
        array([0, 1])
    """
    iterator = iter(batches)
    if iterator is batches:
        raise ValueError(
            f"`{argument}` must be a list or data set of batches, which is read more than once. Received: an iterator, "
            f"{type(batches).__name__}."
        )
    inputs, labels = next(iterator, ((), ()))
    if not len(inputs):
        raise ValueError(f"`{argument}` must hold at least one image. Received: an empty split.")
    return np.asarray(inputs), np.asarray(labels)


def check_tokens(tokens: ArrayLike, argument: str) -> np.ndarray:
    """Return `tokens` as an array after checking that it holds finite, non-empty patch tokens.

    Args:
        tokens: (images, patches, width) floats. A memory map stays a memory map.
        argument: String. Name of the argument in error messages.

    Returns:
        (images, patches, width) array, the same object if `tokens` already is an array.

    Raises:
        ValueError: If the rank is not 3, an axis is empty, or a value is NaN or infinite.

    Example:
        >>> check_tokens(np.zeros((2, 4, 8)), "tokens").shape
        (2, 4, 8)
    """
    tokens = tokens if isinstance(tokens, np.ndarray) else np.asarray(tokens)
    if tokens.ndim != 3 or 0 in tokens.shape:
        raise ValueError(f"`{argument}` must be a non-empty (images, patches, width) array. Received: {tokens.shape}.")
    check_features(tokens.reshape(len(tokens), -1), argument)
    return tokens


def check_boxes(boxes: ArrayLike, argument: str) -> np.ndarray:
    """Return boxes as a float64 array after checking that each has an area.

    Args:
        boxes: (boxes, 4) numbers, x1, y1, x2, y2.
        argument: String. Name of the argument in error messages.

    Returns:
        (boxes, 4) float64.

    Raises:
        ValueError: If the shape differs, a value is NaN or infinite, or a box has x2 <= x1 or y2 <= y1.

    Example:
        >>> check_boxes([[0, 0, 2, 1]], "boxes").tolist()
        [[0.0, 0.0, 2.0, 1.0]]
    """
    boxes = np.asarray(boxes, "float64")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"`{argument}` must be a (boxes, 4) array of x1, y1, x2, y2. Received: shape {boxes.shape}.")
    bad = ~(np.isfinite(boxes).all(axis=1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    if bad.any():
        raise ValueError(
            f"`{argument}` must be finite with x1 < x2 and y1 < y2. Received: {boxes[bad.argmax()].tolist()} in row "
            f"{int(bad.argmax())}, the first of {int(bad.sum())} such rows."
        )
    return boxes


def check_splits(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    num_classes: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Check the features and labels of a train and a test split, and their consistency.

    Args:
        train_features: (train images, width) floats.
        train_labels: (train images,) integers in [0, num_classes).
        test_features: (test images, width) floats.
        test_labels: (test images,) integers in [0, num_classes).
        num_classes: Integer or `None`. Number of classes; `None` stands for the largest training label plus 1.
            Defaults to `None`.

    Returns:
        The four arrays and the number of classes.

    Raises:
        ValueError: If an array fails `check_features` or `check_labels`, if the widths differ, or if the train split
            has one class only.

    Example:
        >>> features, labels = np.eye(3), [0, 1, 2]
        >>> check_splits(features, labels, features, labels)[-1]
        3
    """
    train_features = check_features(train_features, "train_features")
    test_features = check_features(test_features, "test_features")
    if train_features.shape[1] != test_features.shape[1]:
        raise ValueError(
            f"`test_features` must have the width of `train_features`, {train_features.shape[1]}. Received: "
            f"{test_features.shape[1]}."
        )
    train_labels = check_labels(train_labels, len(train_features), "train_labels", num_classes)
    if len(np.unique(train_labels)) < 2:
        raise ValueError(f"`train_labels` must hold at least two classes. Received: only class {train_labels[0]}.")
    num_classes = num_classes or int(train_labels.max()) + 1
    test_labels = check_labels(test_labels, len(test_features), "test_labels", num_classes)
    return train_features, train_labels, test_features, test_labels, num_classes


def describe_splits(train_labels: np.ndarray, test_labels: np.ndarray, width: int, num_classes: int) -> dict[str, int]:
    """Return the `data` entry of an `EvaluationResult` on two splits.

    Args:
        train_labels: (train images,) integers.
        test_labels: (test images,) integers.
        width: Integer. Width of the features.
        num_classes: Integer. Number of classes.

    Returns:
        Dictionary with `train_images`, `test_images`, `classes` and `width`.

    Example:
        >>> describe_splits(np.arange(3), np.arange(2), width=8, num_classes=3)
        {'train_images': 3, 'test_images': 2, 'classes': 3, 'width': 8}
    """
    return {
        "train_images": len(train_labels),
        "test_images": len(test_labels),
        "classes": num_classes,
        "width": int(width),
    }
