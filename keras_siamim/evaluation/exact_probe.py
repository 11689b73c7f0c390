"""The fast linear probe: logistic regression on frozen features, solved to convergence.

The penalty is chosen on a held-out part of the *train* split, then the regression is solved again on all of it; the
test split is looked at once.
"""

from collections.abc import Sequence

import keras
import numpy as np

from keras_siamim.evaluation.checks import check_splits, describe_splits
from keras_siamim.evaluation.few_shot import draw_indices
from keras_siamim.evaluation.logistic import fit_logistic
from keras_siamim.evaluation.result import EvaluationResult, stopwatch

PENALTIES = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
_PATIENCE = 2  # weaker penalties that may fail to improve before the sweep ends; they are the slow ones


def standardize(train_features, *others) -> list[np.ndarray]:
    """Return the splits with each channel of mean 0 and variance 1 over the train split, as float64.

    It plays the part of the BatchNorm without affine of the trained probe; constant channels become zeros.
    """
    mean = train_features.mean(axis=0, dtype="float64")
    deviation = train_features.std(axis=0, dtype="float64")
    scale = np.where(deviation > 1e-9 * (1 + np.abs(mean)), 1 / np.maximum(deviation, 1e-30), 0)
    return [(split - mean) * scale for split in (train_features, *others)]


def exact_probe(
    train_features,
    train_labels,
    test_features,
    test_labels,
    penalties: Sequence[float] = PENALTIES,
    held_out: float = 0.1,
    seed: int = 0,
    num_classes: int | None = None,
    max_iterations: int = 1000,
    verbose: int = 0,
) -> EvaluationResult:
    """Fit a linear classifier on frozen features and measure it on the test split.

    Args:
        train_features: (train images, width) floats.
        train_labels: (train images,) integers, 0...classes-1, at least two images of each class present.
        test_features: (test images, width) floats.
        test_labels: (test images,) integers, 0...classes-1.
        penalties: values of λ to try in mean cross-entropy + (λ / 2) ||W||^2, each above 0, from the largest down,
            until two in a row don't improve.
        held_out: share of each class of the train split on which λ is chosen, above 0 and below 1.
        seed: of the held-out draw.
        num_classes: number of classes; by default one more than the largest training label.
        max_iterations: of the solver, for each fit.
        verbose: 1 shows a progress bar over the fits.

    Returns:
        An `EvaluationResult` with `top1`, `top1_held_out` (of the chosen λ) and `penalty`.

    Raises:
        ValueError: if features or labels are malformed, a class has one image only, or a setting is out of its range.
    """
    arrays = check_splits(train_features, train_labels, test_features, test_labels, num_classes)
    train_features, train_labels, test_features, test_labels, num_classes = arrays
    if not penalties or not all(penalty > 0 for penalty in penalties):
        raise ValueError(f"`penalties` must be one or more values above 0; received {penalties}.")
    if not 0 < held_out < 1:
        raise ValueError(f"`held_out` must be above 0 and below 1; received {held_out}.")
    present, counts = np.unique(train_labels, return_counts=True)
    if counts.min() < 2:
        raise ValueError(
            f"Every class of `train_labels` must have at least two images, one of them to hold out; class "
            f"{present[counts.argmin()]} has one."
        )
    with stopwatch() as seconds:
        progress = keras.utils.Progbar(len(penalties) + 1, verbose=verbose, unit_name="fit")
        chosen_on = draw_indices(train_labels, fraction=held_out, seed=seed)
        fitted_on = np.setdiff1d(np.arange(len(train_labels)), chosen_on)
        train, chosen = standardize(train_features[fitted_on], train_features[chosen_on])
        classifier, scores, unfinished = None, {}, 0
        for penalty in sorted(penalties, reverse=True):
            scale = penalty * len(fitted_on)
            classifier = fit_logistic(train, train_labels[fitted_on], scale, True, max_iterations, classifier)
            scores[penalty] = classifier.accuracy(chosen, train_labels[chosen_on])
            unfinished += not classifier.converged
            progress.add(1)
            best = max(scores, key=scores.get)  # of equals the strongest
            if list(scores).index(best) < len(scores) - _PATIENCE:
                break
        train, test = standardize(train_features, test_features)
        classifier = fit_logistic(train, train_labels, best * len(train), True, max_iterations)
        accuracy = classifier.accuracy(test, test_labels)
        progress.add(1)
    notes = []
    if len(penalties) > 1 and best in (min(penalties), max(penalties)):
        notes.append(f"The best penalty, {best:g}, is at the edge of those tried.")
    if unfinished or not classifier.converged:
        count = unfinished + (not classifier.converged)
        notes.append(f"{count} of {len(scores) + 1} fits did not converge in {max_iterations} iterations.")
    return EvaluationResult(
        protocol="exact_probe",
        numbers={"top1": accuracy, "top1_held_out": scores[best], "penalty": float(best)},
        settings={"penalties": list(penalties), "held_out": held_out, "max_iterations": max_iterations},
        data=describe_splits(train_labels, test_labels, train.shape[1], num_classes),
        seed=seed,
        seconds=seconds(),
        notes=tuple(notes),
    )
