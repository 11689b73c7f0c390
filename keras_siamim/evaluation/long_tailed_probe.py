"""Long-tailed probe: classification of frozen features when most classes have few labels.

The train split is thinned to the exponential profile of long-tailed CIFAR (Cui et al., CVPR 2019, arXiv 1901.05555),
and the test split stays balanced. Groups of many, medium and few shots are those of Liu et al., CVPR 2019 (arXiv
1904.05160).
"""

import keras
import numpy as np

from keras_siamim.evaluation.checks import check_splits, describe_splits
from keras_siamim.evaluation.exact_probe import predict_by_probe
from keras_siamim.evaluation.knn import nearest_neighbors, vote
from keras_siamim.evaluation.result import EvaluationResult, stopwatch
from keras_siamim.types import ArrayLike

# Bounds of the groups, in training images per class.
_MANY, _FEW = 100, 20
# One image to fit and one to select the penalty of the probe.
_MIN_IMAGES = 2
_GROUPS = ("many", "medium", "few")


def long_tailed_counts(counts: ArrayLike, imbalance: float) -> np.ndarray:
    """Return the number of images that each class keeps, `n * imbalance**(-i / (K - 1))` for class i of K.

    The number is rounded down, and at least 2 or, if the class has only one image, 1.

    Args:
        counts: (classes,) integers, 1 or more. Images per class, n, in the order of the profile.
        imbalance: Float, 1 or more. Ratio of the largest to the smallest class.

    Returns:
        (classes,) int64.

    Example:
        >>> long_tailed_counts([5000] * 10, imbalance=100).tolist()
        [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    """
    counts = np.asarray(counts, "int64")
    exponents = np.arange(len(counts)) / max(len(counts) - 1, 1)
    # The small number keeps exact results such as 500 / 100 from being rounded down by one.
    kept = np.floor(counts * float(imbalance) ** -exponents + 1e-6).astype("int64")
    return np.minimum(np.maximum(kept, _MIN_IMAGES), counts)


def thin_to_profile(labels: ArrayLike, imbalance: float, seed: int | tuple[int, ...] = 0) -> np.ndarray:
    """Draw a long-tailed subset of a train split.

    Args:
        labels: (images,) integers.
        imbalance: Float, 1 or more. Ratio of the largest to the smallest class.
        seed: Integer or tuple of integers. Seed of the order of the classes and of the images. Defaults to 0.

    Returns:
        (kept,) int64 indices, ascending.

    Example:
        >>> kept = thin_to_profile(np.repeat([0, 1], 100), imbalance=10)
        >>> sorted(np.bincount(np.repeat([0, 1], 100)[kept]).tolist())
        [10, 100]
    """
    labels, random = np.asarray(labels), np.random.default_rng(seed)
    classes = random.permutation(np.unique(labels))
    images = [np.flatnonzero(labels == value) for value in classes]
    counts = long_tailed_counts([len(ids) for ids in images], imbalance)
    kept = [random.choice(ids, count, replace=False) for ids, count in zip(images, counts, strict=True)]
    return np.sort(np.concatenate(kept))


def shot_groups(train_labels: ArrayLike, labels: ArrayLike) -> dict[str, np.ndarray]:
    """Return masks of the images whose classes have many (> 100), medium (20 to 100) or few (< 20) training images.

    Args:
        train_labels: (train images,) integers. Labels of the long-tailed subset.
        labels: (images,) integers.

    Returns:
        Dictionary from `"many"`, `"medium"` and `"few"` to (images,) booleans.

    Example:
        >>> groups = shot_groups(np.repeat([0, 1], [150, 5]), np.array([0, 1, 1]))
        >>> {name: int(mask.sum()) for name, mask in groups.items()}
        {'many': 1, 'medium': 0, 'few': 2}
    """
    train_labels, labels = np.asarray(train_labels), np.asarray(labels)
    shots = np.bincount(train_labels, minlength=labels.max() + 1)[labels]
    return {"many": shots > _MANY, "medium": (shots >= _FEW) & (shots <= _MANY), "few": shots < _FEW}


def long_tailed_probe(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    imbalance: float = 100.0,
    num_draws: int = 3,
    k: int = 20,
    temperature: float = 0.07,
    seed: int = 0,
    num_classes: int | None = None,
    verbose: int = 0,
) -> EvaluationResult:
    """Evaluate the exact linear probe and k-NN on long-tailed subsets of the train split.

    Each draw has its own order of the classes and its own images. Settings of the probe are selected inside the subset,
    with a tenth of each class, at least one image. Every class keeps at least two images; a note reports if the
    profile has fewer.

    Args:
        train_features: (train images, width) floats.
        train_labels: (train images,) integers in [0, num_classes), at least two images per class that occurs. If the
            classes differ in size, the profile multiplies the size of each.
        test_features: (test images, width) floats.
        test_labels: (test images,) integers in [0, num_classes). The split should be balanced.
        imbalance: Float, 1 or more. Ratio of the largest to the smallest class. Defaults to 100.
        num_draws: Integer, 1 or more. Number of random subsets. Defaults to 3.
        k: Integer, 1 or more. Number of neighbors, at most the size of the subset. Defaults to 20.
        temperature: Float above 0. Temperature of the vote of k-NN. Defaults to 0.07.
        seed: Integer. Seed of the random subsets. Defaults to 0.
        num_classes: Integer or `None`. Number of classes; `None` stands for the largest training label plus 1.
            Defaults to `None`.
        verbose: Integer. 1 shows a progress bar over the draws. Defaults to 0.

    Returns:
        An `EvaluationResult` with mean accuracies over the draws: `linear_top1`, `linear_many`, `linear_medium` and
        `linear_few` of the probe, and `knn_top1` to `knn_few` of k-NN. With several draws, each name with the suffix
        `_std` is the sample standard deviation (n - 1). Draws without test images of a group do not count in its mean.
        A group without test images in all draws is left out, and a note reports it.

    Raises:
        ValueError: If features or labels are malformed, a class has one image only, or a setting is out of its range.

    Example:
        >>> features, labels = np.repeat(np.eye(2), 40, axis=0), np.repeat([0, 1], 40)
        >>> result = long_tailed_probe(features, labels, features, labels, imbalance=10, num_draws=1)
        >>> sorted(result.numbers), result.data["labeled_images"]
        (['knn_few', 'knn_medium', 'knn_top1', 'linear_few', 'linear_medium', 'linear_top1'], 44)
    """
    arrays = check_splits(train_features, train_labels, test_features, test_labels, num_classes)
    train_features, train_labels, test_features, test_labels, num_classes = arrays
    if not 1 <= imbalance < np.inf:
        raise ValueError(f"`imbalance` must be 1 or more, and finite. Received: {imbalance}.")
    for name, value in (("num_draws", num_draws), ("k", k)):
        if value < 1:
            raise ValueError(f"`{name}` must be 1 or more. Received: {value}.")
    if not temperature > 0:
        raise ValueError(f"`temperature` must be above 0. Received: {temperature}.")
    progress = keras.utils.Progbar(num_draws, verbose=verbose, unit_name="draw")
    accuracies: dict[str, list[float]] = {}
    notes = []
    with stopwatch() as seconds:
        for draw in range(num_draws):
            kept = thin_to_profile(train_labels, imbalance, (seed, draw))
            features, labels = train_features[kept], train_labels[kept]
            probe = predict_by_probe(features, labels, test_features, seed=(seed, draw))
            similarities, ids = nearest_neighbors(test_features, features, min(k, len(labels)))
            predictions = {"linear": probe.predicted, "knn": vote(similarities, labels[ids], temperature)}
            groups = {"top1": np.ones(len(test_labels), bool), **shot_groups(labels, test_labels)}
            for name, predicted in predictions.items():
                for group, mask in groups.items():
                    if mask.any():
                        correct = float(np.mean(predicted[mask] == test_labels[mask]))
                        accuracies.setdefault(f"{name}_{group}", []).append(correct)
            notes += [f"Draw {draw + 1}: {note}" for note in probe.notes]
            progress.add(1)
    numbers = {name: float(np.mean(values)) for name, values in accuracies.items()}
    numbers |= {f"{name}_std": float(np.std(v, ddof=1)) for name, v in accuracies.items() if len(v) > 1}
    if empty := [group for group in _GROUPS if f"knn_{group}" not in accuracies]:
        notes.append(f"No test images of classes with {' or '.join(empty)} shots.")
    for group in _GROUPS:
        if 0 < (count := len(accuracies.get(f"knn_{group}", ()))) < num_draws:
            notes.append(f"Test images of classes with {group} shots are in {count} of {num_draws} draws.")
    if np.unique(train_labels, return_counts=True)[1].min() / imbalance < _MIN_IMAGES:
        notes.append(f"Classes keep at least {_MIN_IMAGES} images where the profile has fewer.")
    if len(labels) < k:
        notes.append(f"k = {k} was reduced to {len(labels)}, the number of images left.")
    return EvaluationResult(
        protocol="long_tailed_probe",
        numbers=numbers,
        settings={"imbalance": imbalance, "num_draws": num_draws, "k": k, "temperature": temperature},
        data=describe_splits(train_labels, test_labels, train_features.shape[1], num_classes)
        | {"labeled_images": len(labels)},
        seed=seed,
        seconds=seconds(),
        notes=tuple(notes),
    )
