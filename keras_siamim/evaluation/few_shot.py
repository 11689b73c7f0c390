"""Few-shot classification: logistic regression on frozen features of a small labeled subset.

The 1% protocol of Masked Siamese Networks (Assran et al., ECCV 2022, arXiv 2204.07141), which the paper (arXiv
2206.01204, section 4.2) follows. Each feature vector is centered by its own mean over channels and L2-normalized. The
regression has no intercept.
"""

import os
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from keras_siamim.evaluation.checks import check_splits, describe_splits
from keras_siamim.evaluation.knn import normalize
from keras_siamim.evaluation.logistic import fit_logistic
from keras_siamim.evaluation.result import EvaluationResult, stopwatch
from keras_siamim.types import ArrayLike, PathLike


def center_and_normalize(features: ArrayLike) -> np.ndarray:
    """Subtract the mean over channels from each row and scale the row to length 1.

    Args:
        features: (images, width) floats.

    Returns:
        (images, width) float32.

    Example:
        >>> center_and_normalize([[1.0, 3.0]]).round(4)
        array([[-0.7071,  0.7071]], dtype=float32)
    """
    features = np.asarray(features, "float32")
    return normalize(features - features.mean(axis=1, keepdims=True))


def draw_indices(
    labels: ArrayLike, fraction: float | None = None, per_class: int | None = None, seed: int | Sequence[int] = 0
) -> np.ndarray:
    """Draw a labeled subset with the same share or number of images per class, at least one each.

    Args:
        labels: (images,) integers.
        fraction: Float in (0, 1] or `None`. Share of each class. Defaults to `None`.
        per_class: Integer or `None`. Number of images per class; a smaller class contributes all of its images.
            Takes precedence over `fraction`. Defaults to `None`.
        seed: Integer or sequence of integers. Defaults to 0.

    Returns:
        (subset,) int64 indices, ascending.

    Example:
        >>> draw_indices([0, 0, 1, 1, 1], per_class=2).shape
        (4,)
    """
    labels, random = np.asarray(labels), np.random.default_rng(seed)
    sampled = []
    for value in np.unique(labels):
        ids = np.flatnonzero(labels == value)
        count = per_class if per_class is not None else max(1, round(fraction * len(ids)))  # type: ignore[operator]
        sampled.append(random.choice(ids, min(count, len(ids)), replace=False))
    return np.sort(np.concatenate(sampled))


def hold_out(labels: ArrayLike, share: float, seed: int | Sequence[int] = 0) -> tuple[np.ndarray, np.ndarray]:
    """Divide a train split into images to fit and images that select settings, with the same share of each class.

    At least one image of each class is held out.

    Args:
        labels: (images,) integers, at least two images per class that occurs.
        share: Float in (0, 1). Share of each class to hold out.
        seed: Integer or sequence of integers. Defaults to 0.

    Returns:
        Two int64 vectors of ascending indices: the images to fit, and the held-out ones.

    Raises:
        ValueError: If `share` is out of its range, or a class has one image only.

    Example:
        >>> fit, held_out = hold_out([0, 0, 1, 1, 1], share=0.5)
        >>> len(fit), len(held_out)
        (2, 3)
    """
    if not 0 < share < 1:
        raise ValueError(f"`held_out` must be in (0, 1). Received: {share}.")
    labels = np.asarray(labels)
    present, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise ValueError(
            f"`train_labels` must hold at least two images per class, one of them to hold out. Received: one image of "
            f"class {present[counts.argmin()]}."
        )
    held_out = draw_indices(labels, fraction=share, seed=seed)
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def held_out_images(count: int, share: float, seed: int) -> np.ndarray:
    """Choose the training images that select settings.

    Args:
        count: Integer, 2 or more. Number of training images.
        share: Float in (0, 1). Share of them that is held out, at least one image and not all.
        seed: Integer. Seed of the choice.

    Returns:
        (count,) bool, True for held-out images.

    Raises:
        ValueError: If `count` or `share` is out of its range.

    Example:
        >>> int(held_out_images(10, 0.2, seed=0).sum())
        2
    """
    if not 0 < share < 1:
        raise ValueError(f"`held_out` must be in (0, 1). Received: {share}.")
    if count < 2:
        raise ValueError(f"`train` must hold at least two images. Received: {count}.")
    chosen = np.random.default_rng(seed).permutation(count)[: min(max(round(share * count), 1), count - 1)]
    return np.isin(np.arange(count), chosen)


def read_image_list(path: PathLike, names: Sequence[str]) -> np.ndarray:
    """Read a list of image names, one per line, such as the published 1% and 10% lists of ImageNet.

    Args:
        path: Path of a text file. Empty lines are skipped.
        names: Sequence of strings. Name of each image of the split, in order. The folders before the file name may
            differ from those in the list.

    Returns:
        (listed,) int64 indices into `names`, in the order of the list.

    Raises:
        ValueError: If the list is empty, or a listed name matches no image or several images.
    """
    by_name: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        by_name.setdefault(PurePosixPath(name).name, []).append(index)
    with open(path, encoding="utf-8") as file:
        listed = [line.strip() for line in file if line.strip()]
    if not listed:
        raise ValueError(f"`path` must list at least one image. Received: {os.fspath(path)!r}, which lists none.")
    ids = []
    for name in listed:
        found = by_name.get(PurePosixPath(name).name, [])
        if len(found) > 1:
            found = [index for index in found if str(names[index]).endswith(name)]
        if len(found) != 1:
            raise ValueError(
                f"`path` must list names that match exactly one image each. Received: {name!r}, which matches "
                f"{len(found)} of {len(names)} images."
            )
        ids.append(found[0])
    return np.array(ids, np.int64)


def few_shot(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    fraction: float | None = None,
    per_class: int | None = None,
    indices: ArrayLike | None = None,
    penalty: float = 0.1,
    num_subsets: int = 5,
    seed: int = 0,
    num_classes: int | None = None,
) -> EvaluationResult:
    """Classify the test features by logistic regression on few labeled training features.

    Give exactly one of `fraction`, `per_class` and `indices`. The paper uses the class tokens after the last block
    without a final norm.

    Args:
        train_features: (train images, width) floats.
        train_labels: (train images,) integers in [0, num_classes).
        test_features: (test images, width) floats.
        test_labels: (test images,) integers in [0, num_classes).
        fraction: Float in (0, 1] or `None`. Share of each class. Defaults to `None`.
        per_class: Integer, 1 or more, or `None`. Images per class. Defaults to `None`.
        indices: (subset,) integers or `None`. A fixed subset, see `read_image_list`. Defaults to `None`.
        penalty: Float above 0, in sum of cross-entropies + (penalty / 2) ||W||^2. It is the paper's λ times the number
            of labeled images: 0.1 for ViT-Base, 0.01 for ViT-Large. Defaults to 0.1.
        num_subsets: Integer, 1 or more. Number of random subsets; ignored with `indices`. Defaults to 5.
        seed: Integer. Seed of the random subsets. Defaults to 0.
        num_classes: Integer or `None`. Number of classes; `None` stands for the largest training label plus 1.
            Defaults to `None`.

    Returns:
        An `EvaluationResult` with `top1`, the mean over the subsets. With several subsets, `top1_std` is their sample
        standard deviation (n - 1).

    Raises:
        ValueError: If features or labels are malformed, a setting is out of its range, or `indices` has one class only.

    Example:
        >>> features, labels = np.array([[0.0, 1.0], [1.0, 0.0]] * 4), np.array([0, 1] * 4)
        >>> few_shot(features, labels, features, labels, per_class=1).numbers
        {'top1': 1.0, 'top1_std': 0.0}
    """
    arrays = check_splits(train_features, train_labels, test_features, test_labels, num_classes)
    train_features, train_labels, test_features, test_labels, num_classes = arrays
    if sum(option is not None for option in (fraction, per_class, indices)) != 1:
        raise ValueError(
            "`fraction`, `per_class` or `indices` must be given, exactly one of them. Received: "
            f"fraction={fraction}, per_class={per_class}, indices={'None' if indices is None else 'an array'}."
        )
    if fraction is not None and not 0 < fraction <= 1:
        raise ValueError(f"`fraction` must be above 0 and at most 1. Received: {fraction}.")
    if per_class is not None and per_class < 1:
        raise ValueError(f"`per_class` must be 1 or more. Received: {per_class}.")
    if not penalty > 0:
        raise ValueError(f"`penalty` must be above 0. Received: {penalty}.")
    if num_subsets < 1:
        raise ValueError(f"`num_subsets` must be 1 or more. Received: {num_subsets}.")
    notes = []
    if indices is not None:
        subsets = [_check_indices(indices, len(train_labels))]
    else:
        subsets = [draw_indices(train_labels, fraction, per_class, (seed, i)) for i in range(num_subsets)]
        smallest = min(np.unique(train_labels, return_counts=True)[1])
        if per_class is not None and smallest < per_class:
            notes.append(f"Classes with fewer than {per_class} images contributed all of them, at least {smallest}.")
    with stopwatch() as seconds:
        train, test = (center_and_normalize(f).astype("float64") for f in (train_features, test_features))
        accuracies = []
        for subset in subsets:
            if len(np.unique(train_labels[subset])) < 2:
                raise ValueError("`indices` must cover at least two classes. Received: images of one class.")
            classifier = fit_logistic(train[subset], train_labels[subset], penalty, intercept=False)
            accuracies.append(classifier.accuracy(test, test_labels))
            if not classifier.converged:
                notes.append(f"The regression on subset {len(accuracies)} did not converge.")
    numbers = {"top1": float(np.mean(accuracies))}
    if len(subsets) > 1:
        numbers["top1_std"] = float(np.std(accuracies, ddof=1))
    missing = num_classes - min(len(np.unique(train_labels[subset])) for subset in subsets)
    if missing:
        notes.append(f"{missing} of {num_classes} classes have no labeled image in some subset.")
    return EvaluationResult(
        protocol="few_shot",
        numbers=numbers,
        settings={"fraction": fraction, "per_class": per_class, "penalty": penalty, "num_subsets": len(subsets)},
        data=describe_splits(train_labels, test_labels, train.shape[1], num_classes)
        | {"labeled_images": len(subsets[0])},
        seed=None if indices is not None else seed,
        seconds=seconds(),
        notes=tuple(notes),
    )


def _check_indices(indices, count):
    indices = np.asarray(indices)
    valid = indices.ndim == 1 and len(indices) and np.issubdtype(indices.dtype, np.integer)
    if not valid or indices.min() < 0 or indices.max() >= count or len(np.unique(indices)) < len(indices):
        raise ValueError(f"`indices` must be one or more distinct integers in [0, {count}). Received: {indices}.")
    return indices
