"""Segmentation of frozen patch tokens by logistic regression (CAPI, arXiv 2502.08769)."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_siamim.evaluation.logistic import fit_logistic
from keras_siamim.evaluation.mean_iou import IGNORE
from keras_siamim.evaluation.patch_features import PatchFeatures
from keras_siamim.evaluation.result import EvaluationResult, stopwatch
from keras_siamim.evaluation.segmentation_protocol import (
    LabeledPatches,
    describe_patches,
    missing_classes,
    prepare_patches,
    result_numbers,
    score,
)

# Inverse strengths of the L2 penalty, from the strongest penalty.
INVERSE_PENALTIES = tuple(float(value) for value in np.logspace(-6, 5, 8))


def logistic_segmentation(
    train: PatchFeatures,
    test: PatchFeatures,
    num_classes: int,
    ignore: int = IGNORE,
    inverse_penalties: Sequence[float] = INVERSE_PENALTIES,
    held_out: float = 0.1,
    class_names: Sequence[str] = (),
    max_iterations: int = 1000,
    seed: int = 0,
    verbose: int = 0,
) -> EvaluationResult:
    """Classify each test patch by multinomial logistic regression; a patch predicts one class for all of its pixels.

    Tokens are standardized per channel by the train split. The class of a training patch is the most frequent one of
    its pixels; patches without a label are left out. The penalty is selected by the mean IoU on held-out training
    images; the regression is then fitted on all training images and predicts the test split once.

    Args:
        train: `PatchFeatures` with label maps (images, height, width) at the size of the images.
        test: `PatchFeatures` with label maps.
        num_classes: Integer. Number of classes.
        ignore: Integer. Label of pixels without a class. Defaults to 255.
        inverse_penalties: Sequence of floats above 0. Values of C in C * sum of cross-entropies + ||W||^2 / 2. Defaults
            to 8 steps from 1e-6 to 1e5.
        held_out: Float in (0, 1). Share of the training images that selects C. Defaults to 0.1.
        class_names: Sequence of strings. Names of the classes. Defaults to their indices.
        max_iterations: Integer. Iterations of L-BFGS per fit, at most. Defaults to 1000.
        seed: Integer. Seed of the held-out images. Defaults to 0.
        verbose: Integer. 1 shows a progress bar over the fits. Defaults to 0.

    Returns:
        An `EvaluationResult` with the numbers of `knn_segmentation`. `settings` names the selected `inverse_penalty`.

    Raises:
        ValueError: If the splits do not fit each other, have too few labels, or a setting is out of its range.

    Example:
        >>> tokens = np.repeat(np.eye(2, dtype="float32"), 2, axis=0)[None].repeat(4, axis=0)
        >>> split = PatchFeatures(tokens, (2, 2), np.repeat([[[0, 0], [1, 1]]], 4, axis=0))
        >>> logistic_segmentation(split, split, num_classes=2).numbers["miou"]
        1.0
    """
    if not inverse_penalties or not all(value > 0 for value in inverse_penalties):
        raise ValueError(f"`inverse_penalties` must be one or more values above 0. Received: {inverse_penalties}.")
    with stopwatch() as seconds:
        patches = prepare_patches(train, test, num_classes, ignore, held_out, seed)
        fitted, validation = patches.train.select(~patches.held_out), patches.train.select(patches.held_out)
        if len(np.unique(fitted.classes)) < 2:
            raise ValueError(
                "`train` must hold two classes outside the held-out images too. Received: one, with "
                f"held_out={held_out}, seed={seed}."
            )
        progress = keras.utils.Progbar(len(inverse_penalties) + 1, verbose=verbose, unit_name="fit")
        scores: dict[float, float] = {}
        unconverged, classifier = 0, None
        for value in sorted(inverse_penalties):
            classifier = fit_logistic(fitted.tokens, fitted.classes, 1 / value, True, max_iterations, classifier)
            scores[value] = _score(classifier, validation, num_classes, ignore).mean_iou
            unconverged += not classifier.converged
            progress.add(1)
        best = max(scores, key=lambda tried: scores[tried])  # the strongest penalty among equal scores
        classifier = fit_logistic(patches.train.tokens, patches.train.classes, 1 / best, True, max_iterations)
        unconverged += not classifier.converged
        found = _score(classifier, patches.test, num_classes, ignore)
        progress.add(1)
    notes = list(missing_classes(patches, num_classes, class_names))
    if unconverged:
        notes.append(f"{unconverged} of {len(scores) + 1} fits did not converge in {max_iterations} iterations.")
    return EvaluationResult(
        protocol="logistic_segmentation",
        numbers=result_numbers(found, scores[best], class_names),
        settings={
            "inverse_penalty": best,
            "tried_inverse_penalties": sorted(inverse_penalties),
            "max_iterations": max_iterations,
        },
        data=describe_patches(patches, train, test, num_classes),
        seed=seed,
        seconds=seconds(),
        notes=tuple(notes),
    )


def _score(classifier, patches: LabeledPatches, num_classes, ignore):
    classes = classifier.estimator.predict(patches.tokens)
    pixels = patches.labels.shape[1]
    return score(patches, lambda part: np.repeat(classes[part, None], pixels, axis=1), num_classes, ignore)
