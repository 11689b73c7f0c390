"""Few-shot classification: logistic regression on frozen features of a small part of the labels.

The 1 % protocol of Masked Siamese Networks (Assran et al., ECCV 2022, arXiv 2204.07141), which the paper (arXiv
2206.01204, section 4.2) follows: each feature minus its own mean over channels, L2-normalized, no intercept.
"""

import os
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from keras_siamim.evaluation.checks import check_splits, describe_splits
from keras_siamim.evaluation.knn import normalize
from keras_siamim.evaluation.logistic import fit_logistic
from keras_siamim.evaluation.result import EvaluationResult, stopwatch


def center_and_normalize(features) -> np.ndarray:
    """Return each row of (images, width) minus its own mean over channels, scaled to length 1, as float32."""
    features = np.asarray(features, "float32")
    return normalize(features - features.mean(axis=1, keepdims=True))


def draw_indices(labels, fraction: float | None = None, per_class: int | None = None, seed=0) -> np.ndarray:
    """Draw a labeled subset, the same share or number of every class, at least one image each.

    Args:
        labels: (images,) integers.
        fraction: share of each class, above 0 and up to 1.
        per_class: number of images of each class; a smaller class gives all it has.
        seed: an integer or a sequence of them.

    Returns:
        (drawn,) int64, ascending.
    """
    labels, random = np.asarray(labels), np.random.default_rng(seed)
    drawn = []
    for value in np.unique(labels):
        ids = np.flatnonzero(labels == value)
        count = per_class if per_class is not None else max(1, round(fraction * len(ids)))
        drawn.append(random.choice(ids, min(count, len(ids)), replace=False))
    return np.sort(np.concatenate(drawn))


def read_image_list(path: str | os.PathLike, names: Sequence[str]) -> np.ndarray:
    """Read which images a list names, one a line, as the published 1 % and 10 % lists of ImageNet do.

    Args:
        path: text file; empty lines are passed over.
        names: name of each image of the split, in order; folders before the file name may differ from the list's.

    Returns:
        (listed,) int64 indices into `names`, in the order of the list.

    Raises:
        ValueError: if a listed name is missing from `names` or fits several, or nothing is listed.
    """
    by_name: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        by_name.setdefault(PurePosixPath(name).name, []).append(number)
    with open(path, encoding="utf-8") as file:
        listed = [line.strip() for line in file if line.strip()]
    if not listed:
        raise ValueError(f"`path` must list at least one image; {os.fspath(path)!r} lists none.")
    ids = []
    for name in listed:
        found = by_name.get(PurePosixPath(name).name, [])
        if len(found) > 1:
            found = [number for number in found if str(names[number]).endswith(name)]
        if len(found) != 1:
            raise ValueError(
                f"Every listed name must fit exactly one image; {name!r} fits {len(found)} of {len(names)}."
            )
        ids.append(found[0])
    return np.array(ids, np.int64)


def few_shot(
    train_features,
    train_labels,
    test_features,
    test_labels,
    fraction: float | None = None,
    per_class: int | None = None,
    indices=None,
    penalty: float = 0.1,
    draws: int = 5,
    seed: int = 0,
    num_classes: int | None = None,
) -> EvaluationResult:
    """Classify the test features by a regression on few labeled training features.

    Exactly one of `fraction`, `per_class` and `indices` says which. In the paper the features are the class tokens
    after the last block without a final norm.

    Args:
        train_features: (train images, width) floats.
        train_labels: (train images,) integers, 0...classes-1.
        test_features: (test images, width) floats.
        test_labels: (test images,) integers, 0...classes-1.
        fraction: share of each class, above 0 and up to 1.
        per_class: images of each class, 1 or more.
        indices: (drawn,) integers that fix the draw, see `read_image_list`.
        penalty: sum of cross-entropies + (penalty / 2) ||W||^2; the paper's λ times n: 0.1 for Base, 0.01 for Large.
        draws: how many subsets are drawn; 1 with `indices`.
        seed: of the draws.
        num_classes: number of classes; by default one more than the largest training label.

    Returns:
        An `EvaluationResult` with `top1`, the mean over the draws, and, of several, `top1_std` (n - 1).

    Raises:
        ValueError: if features or labels are malformed, a setting is out of its range, or a draw has one class only.
    """
    arrays = check_splits(train_features, train_labels, test_features, test_labels, num_classes)
    train_features, train_labels, test_features, test_labels, num_classes = arrays
    if sum(option is not None for option in (fraction, per_class, indices)) != 1:
        raise ValueError(
            "Exactly one of `fraction`, `per_class` and `indices` must be given; received "
            f"fraction={fraction}, per_class={per_class}, indices={'None' if indices is None else 'an array'}."
        )
    if fraction is not None and not 0 < fraction <= 1:
        raise ValueError(f"`fraction` must be above 0 and up to 1; received {fraction}.")
    if per_class is not None and per_class < 1:
        raise ValueError(f"`per_class` must be 1 or more; received {per_class}.")
    if not penalty > 0:
        raise ValueError(f"`penalty` must be above 0; received {penalty}.")
    if draws < 1:
        raise ValueError(f"`draws` must be 1 or more; received {draws}.")
    notes = []
    if indices is not None:
        subsets = [_check_indices(indices, len(train_labels))]
    else:
        subsets = [draw_indices(train_labels, fraction, per_class, (seed, draw)) for draw in range(draws)]
        smallest = min(np.unique(train_labels, return_counts=True)[1])
        if per_class is not None and smallest < per_class:
            notes.append(f"Classes with fewer than {per_class} images gave all they have (the smallest {smallest}).")
    with stopwatch() as seconds:
        train, test = (center_and_normalize(f).astype("float64") for f in (train_features, test_features))
        accuracies = []
        for subset in subsets:
            if len(np.unique(train_labels[subset])) < 2:
                raise ValueError("`indices` must draw at least two classes; they draw one.")
            classifier = fit_logistic(train[subset], train_labels[subset], penalty, intercept=False)
            accuracies.append(classifier.accuracy(test, test_labels))
            if not classifier.converged:
                notes.append(f"The regression of draw {len(accuracies)} did not converge.")
    numbers = {"top1": float(np.mean(accuracies))}
    if len(subsets) > 1:
        numbers["top1_std"] = float(np.std(accuracies, ddof=1))
    missing = num_classes - min(len(np.unique(train_labels[subset])) for subset in subsets)
    if missing:
        notes.append(f"{missing} of {num_classes} classes have no labeled image in some draw.")
    return EvaluationResult(
        protocol="few_shot",
        numbers=numbers,
        settings={"fraction": fraction, "per_class": per_class, "penalty": penalty, "draws": len(subsets)},
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
        raise ValueError(f"`indices` must be different integers in 0...{count - 1}, one or more; received {indices}.")
    return indices
