"""Label maps as the labels of patches."""

import numpy as np

from keras_siamim.evaluation.mean_iou import IGNORE


def patch_label_maps(label_maps: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Cut label maps into the patches of a grid.

    Args:
        label_maps: (images, height, width) integers. The grid divides height and width.
        grid: Tuple (rows, columns) of the patch grid.

    Returns:
        (images * rows * columns, pixels per patch) of the same dtype, patches row by row.

    Raises:
        ValueError: If the maps have another rank, or the grid does not divide them.

    Example:
        >>> patch_label_maps(np.arange(8).reshape(1, 2, 4), (1, 2))
        array([[0, 1, 4, 5],
               [2, 3, 6, 7]])
    """
    rows, columns = grid
    if label_maps.ndim != 3 or label_maps.shape[1] % rows or label_maps.shape[2] % columns:
        raise ValueError(
            f"`label_maps` must be (images, height, width), multiples of the grid {grid}. Received: shape "
            f"{label_maps.shape}."
        )
    images, height, width = label_maps.shape
    cells = label_maps.reshape(images, rows, height // rows, columns, width // columns)
    return cells.transpose(0, 1, 3, 2, 4).reshape(images * rows * columns, -1)


def count_labels(labels: np.ndarray, num_classes: int, ignore: int = IGNORE) -> np.ndarray:
    """Count the labels in each row.

    Args:
        labels: (rows, pixels) integers in [0, num_classes), or `ignore`, which does not count.
        num_classes: Integer. Number of classes.
        ignore: Integer. Label of pixels without a class. Defaults to 255.

    Returns:
        (rows, num_classes) int64.

    Raises:
        ValueError: If a label is out of its range.

    Example:
        >>> count_labels(np.array([[0, 1, 1, 255]]), num_classes=2)
        array([[1, 2]])
    """
    bins = num_classes + 1  # the last one takes the ignored pixels
    values = np.where(labels == ignore, num_classes, labels).astype("int64")
    wrong = (values < 0) | (values >= bins) | ((values == num_classes) & (labels != ignore))
    if wrong.any():
        raise ValueError(
            f"`labels` must be in [0, {num_classes}) or {ignore}. Received: {np.asarray(labels)[wrong].max()}."
        )
    values += bins * np.arange(len(values))[:, None]
    return np.bincount(values.ravel(), minlength=bins * len(values)).reshape(-1, bins)[:, :num_classes]


def modes(labels: np.ndarray, num_classes: int, ignore: int = IGNORE, chunk: int = 65_536) -> np.ndarray:
    """Return the most frequent class of each row; ties go to the smallest class.

    Args:
        labels: (rows, pixels) integers in [0, num_classes), or `ignore`.
        num_classes: Integer. Number of classes.
        ignore: Integer. Label of pixels without a class, and the result of rows that hold nothing else. Defaults to
            255.
        chunk: Integer. Rows counted at a time. Defaults to 65,536.

    Returns:
        (rows,) int64.

    Example:
        >>> modes(np.array([[1, 0, 255], [255, 255, 255]]), num_classes=2).tolist()
        [0, 255]
    """
    found = []
    for start in range(0, len(labels), chunk):
        counts = count_labels(labels[start : start + chunk], num_classes, ignore)
        found.append(np.where(counts.any(axis=1), counts.argmax(axis=1), ignore))
    return np.concatenate(found) if found else np.zeros(0, "int64")
