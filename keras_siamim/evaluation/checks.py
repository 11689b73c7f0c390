"""Validation shared by the protocols, once, at their public edge."""

import numpy as np

_ROWS_PER_CHECK = 65_536  # bounds the memory of the check itself where the features are a memory map


def check_features(features, argument: str) -> np.ndarray:
    """Return `features` as an array after checking that it is a finite matrix of floats.

    Args:
        features: (images, width) floats; a memory map stays one.
        argument: name to use in messages.

    Returns:
        (images, width) array, not copied where it already is one.

    Raises:
        ValueError: if the rank is not 2, there is no row or no column, or a value is NaN or infinite.
    """
    features = features if isinstance(features, np.ndarray) else np.asarray(features)
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(
            f"`{argument}` must have the shape (images, width) with at least one of each; received {features.shape}. "
            "Is the split empty?"
        )
    if not np.issubdtype(features.dtype, np.floating):
        raise ValueError(f"`{argument}` must hold floats; received dtype {features.dtype}.")
    for start in range(0, len(features), _ROWS_PER_CHECK):
        bad = ~np.isfinite(features[start : start + _ROWS_PER_CHECK]).all(axis=1)
        if bad.any():
            raise ValueError(
                f"`{argument}` must be finite; received NaN or infinity in {int(bad.sum())} of rows {start}..."
                f"{start + len(bad) - 1}, the first being row {start + int(bad.argmax())}."
            )
    return features


def check_labels(labels, count: int, argument: str, num_classes: int | None = None) -> np.ndarray:
    """Return `labels` as an int64 vector after checking its length and range.

    Args:
        labels: (images,) integers, 0...num_classes-1.
        count: how many images there are.
        argument: name to use in messages.
        num_classes: number of classes; `None` checks only that no label is negative.

    Returns:
        (images,) int64.

    Raises:
        ValueError: if the labels are not `count` integers in the range.
    """
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise ValueError(f"`{argument}` must hold one label per image, shape ({count},); received {labels.shape}.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"`{argument}` must hold integers; received dtype {labels.dtype}.")
    if labels.min() < 0 or (num_classes is not None and labels.max() >= num_classes):
        allowed = "0 or more" if num_classes is None else f"in 0...{num_classes - 1}"
        raise ValueError(f"`{argument}` must be {allowed}; received values {labels.min()}...{labels.max()}.")
    return labels.astype(np.int64)


def check_splits(train_features, train_labels, test_features, test_labels, num_classes: int | None = None):
    """Check a train and a test split against each other.

    Args:
        train_features: (train images, width) floats.
        train_labels: (train images,) integers.
        test_features: (test images, width) floats.
        test_labels: (test images,) integers.
        num_classes: number of classes; by default one more than the largest training label.

    Returns:
        The four arrays and the number of classes.

    Raises:
        ValueError: as `check_features` and `check_labels`, if the widths differ, or if there is only one class.
    """
    train_features = check_features(train_features, "train_features")
    test_features = check_features(test_features, "test_features")
    if train_features.shape[1] != test_features.shape[1]:
        raise ValueError(
            f"`test_features` must have the width of `train_features`, {train_features.shape[1]}; received "
            f"{test_features.shape[1]}."
        )
    train_labels = check_labels(train_labels, len(train_features), "train_labels", num_classes)
    if len(np.unique(train_labels)) < 2:
        raise ValueError(f"`train_labels` must hold at least two classes; received only class {train_labels[0]}.")
    num_classes = num_classes or int(train_labels.max()) + 1
    test_labels = check_labels(test_labels, len(test_features), "test_labels", num_classes)
    return train_features, train_labels, test_features, test_labels, num_classes


def describe_splits(train_labels, test_labels, width: int, num_classes: int) -> dict:
    """Return the `data` entry of a result on two splits."""
    return {
        "train_images": len(train_labels),
        "test_images": len(test_labels),
        "classes": num_classes,
        "width": int(width),
    }
