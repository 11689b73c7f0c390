"""Exact linear probe: logistic regression on frozen features, solved to convergence.

A held-out part of the *train* split selects the penalty. The regression is then solved on the complete train split and
evaluated once on the test split.
"""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from keras_siamim.evaluation.checks import check_splits, describe_splits
from keras_siamim.evaluation.few_shot import hold_out
from keras_siamim.evaluation.logistic import fit_logistic
from keras_siamim.evaluation.result import EvaluationResult, stopwatch
from keras_siamim.types import ArrayLike

PENALTIES = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
# The sweep ends after this many weaker penalties without improvement, because weak penalties take longest to solve.
_PATIENCE = 2


def channel_scale(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each channel and the factor that gives it a standard deviation of 1.

    Args:
        features: (rows, width) floats.

    Returns:
        Two (width,) float64 vectors. The factor of a constant channel is 0.

    Example:
        >>> [vector.tolist() for vector in channel_scale(np.array([[1.0, 5.0], [3.0, 5.0]]))]
        [[2.0, 5.0], [1.0, 0.0]]
    """
    mean, deviation = features.mean(axis=0, dtype="float64"), features.std(axis=0, dtype="float64")
    return mean, np.where(deviation > 1e-9 * (1 + np.abs(mean)), 1 / np.maximum(deviation, 1e-30), 0)


def standardize(train_features: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Standardize each channel by the mean and standard deviation of the train split.

    Args:
        train_features: (train images, width) floats.
        *others: (images, width) floats. Further splits.

    Returns:
        All splits as float64, the train split first. Channels that are constant over the train split become zeros.

    Example:
        >>> standardize(np.array([[1.0], [3.0]]), np.array([[5.0]]))[1]
        array([[3.]])
    """
    # Replaces the BatchNorm without affine of the trained probe.
    mean, scale = channel_scale(train_features)
    return [(split - mean) * scale for split in (train_features, *others)]


class ProbePredictions(NamedTuple):
    """Predictions of the exact probe on a test split.

    Attributes:
        predicted: (test images,) integers. Predicted classes.
        penalty: Float. The selected λ.
        top1_held_out: Float. Accuracy of the selected λ on the held-out part of the train split.
        notes: Tuple of strings. Remarks on the sweep and on convergence.
    """

    predicted: np.ndarray
    penalty: float
    top1_held_out: float
    notes: tuple[str, ...]


def predict_by_probe(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    penalties: Sequence[float] = PENALTIES,
    held_out: float = 0.1,
    seed: int | Sequence[int] = 0,
    max_iterations: int = 1000,
    verbose: int = 0,
) -> ProbePredictions:
    """Select the penalty on a held-out part of the train split, fit all of it and predict the test split.

    Args:
        train_features: (train images, width) floats.
        train_labels: (train images,) integers, at least two images per class that occurs.
        test_features: (test images, width) floats.
        penalties: As in `exact_probe`. Defaults to `PENALTIES`.
        held_out: As in `exact_probe`. Defaults to 0.1.
        seed: Integer or sequence of integers. Seed of the held-out part. Defaults to 0.
        max_iterations: As in `exact_probe`. Defaults to 1000.
        verbose: Integer. 1 shows a progress bar over the fits. Defaults to 0.

    Returns:
        `ProbePredictions`.

    Raises:
        ValueError: If a class has one image only, or a setting is out of its range.

    Example:
        >>> features, labels = np.repeat(np.eye(2), 4, axis=0), np.repeat([0, 1], 4)
        >>> predict_by_probe(features, labels, np.eye(2)).predicted.tolist()
        [0, 1]
    """
    if not penalties or not all(penalty > 0 for penalty in penalties):
        raise ValueError(f"`penalties` must be one or more values above 0. Received: {penalties}.")
    fit_ids, held_out_ids = hold_out(train_labels, held_out, seed)
    progress = keras.utils.Progbar(len(penalties) + 1, verbose=verbose, unit_name="fit")
    train, validation = standardize(train_features[fit_ids], train_features[held_out_ids])
    classifier, scores, unconverged = None, {}, 0
    for penalty in sorted(penalties, reverse=True):
        scale = penalty * len(fit_ids)
        classifier = fit_logistic(train, train_labels[fit_ids], scale, True, max_iterations, classifier)
        scores[penalty] = classifier.accuracy(validation, train_labels[held_out_ids])
        unconverged += not classifier.converged
        progress.add(1)
        best = max(scores, key=lambda tried: scores[tried])  # the strongest penalty among equal scores
        if list(scores).index(best) < len(scores) - _PATIENCE:
            break
    train, test = standardize(train_features, test_features)
    classifier = fit_logistic(train, train_labels, best * len(train), True, max_iterations)
    progress.add(1)
    notes = []
    if len(penalties) > 1 and best in (min(penalties), max(penalties)):
        notes.append(f"The best penalty, {best:g}, is at the edge of those tried.")
    if unconverged or not classifier.converged:
        count = unconverged + (not classifier.converged)
        notes.append(f"{count} of {len(scores) + 1} fits did not converge in {max_iterations} iterations.")
    return ProbePredictions(classifier.estimator.predict(test), float(best), float(scores[best]), tuple(notes))


def exact_probe(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    penalties: Sequence[float] = PENALTIES,
    held_out: float = 0.1,
    seed: int = 0,
    num_classes: int | None = None,
    max_iterations: int = 1000,
    verbose: int = 0,
) -> EvaluationResult:
    """Fit a linear classifier on frozen features and evaluate it on the test split.

    Args:
        train_features: (train images, width) floats.
        train_labels: (train images,) integers in [0, num_classes), at least two images per class that occurs.
        test_features: (test images, width) floats.
        test_labels: (test images,) integers in [0, num_classes).
        penalties: Sequence of floats above 0. Values of λ in mean cross-entropy + (λ / 2) ||W||^2. They are tried from
            the largest down, until two in a row bring no improvement. Defaults to `PENALTIES`.
        held_out: Float in (0, 1). Share of each class of the train split that selects λ. Defaults to 0.1.
        seed: Integer. Seed of the held-out part. Defaults to 0.
        num_classes: Integer or `None`. Number of classes; `None` stands for the largest training label plus 1.
            Defaults to `None`.
        max_iterations: Integer. Iterations of the solver per fit, at most. Defaults to 1000.
        verbose: Integer. 1 shows a progress bar over the fits. Defaults to 0.

    Returns:
        An `EvaluationResult` with `top1`, `top1_held_out` (of the selected λ) and `penalty`.

    Raises:
        ValueError: If features or labels are malformed, a class has one image only, or a setting is out of its range.

    Example:
        >>> features, labels = np.repeat(np.eye(2), 4, axis=0), np.repeat([0, 1], 4)
        >>> exact_probe(features, labels, features, labels).numbers["top1"]
        1.0
    """
    arrays = check_splits(train_features, train_labels, test_features, test_labels, num_classes)
    train_features, train_labels, test_features, test_labels, num_classes = arrays
    with stopwatch() as seconds:
        probe = predict_by_probe(
            train_features, train_labels, test_features, penalties, held_out, seed, max_iterations, verbose
        )
    return EvaluationResult(
        protocol="exact_probe",
        numbers={
            "top1": float(np.mean(probe.predicted == test_labels)),
            "top1_held_out": probe.top1_held_out,
            "penalty": probe.penalty,
        },
        settings={"penalties": list(penalties), "held_out": held_out, "max_iterations": max_iterations},
        data=describe_splits(train_labels, test_labels, train_features.shape[1], num_classes),
        seed=seed,
        seconds=seconds(),
        notes=probe.notes,
    )
