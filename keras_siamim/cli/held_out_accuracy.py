"""Accuracies of an encoder on held-out images, beside pre-training: they report their own failures and end no run."""

from __future__ import annotations

import argparse

import keras
import numpy as np

from keras_siamim.callbacks.observer import first_line
from keras_siamim.cli.labeled_batches import print_notes
from keras_siamim.data.sources import Source, has_labels, open_held_out
from keras_siamim.evaluation.exact_probe import exact_probe
from keras_siamim.evaluation.features import Features
from keras_siamim.evaluation.few_shot import draw_indices
from keras_siamim.evaluation.knn import knn

# Maximum number of images per split for k-NN, a random sample over all classes.
KNN_IMAGES = 50_000
NEIGHBORS = 20
# Maximum number of images that the linear probe is fitted to, so that it takes seconds.
PROBE_IMAGES = 2000
# Images with sides up to this many pixels are evaluated uncropped; larger ones are resized and center-cropped.
SMALL = 96


def held_out_images(options: argparse.Namespace, source: Source) -> Source | None:
    """Open the held-out images for k-NN, with the class indices of the training images.

    Args:
        options: Parsed options of the command.
        source: Source of the training images.

    Returns:
        A source of images. None if labels are missing or a class is not among those of training; the function prints
        the reason in one line.
    """
    try:
        if not has_labels(source):
            raise ValueError(f"{source.name} has no labels")
        if len(source.class_names) == 1:
            raise ValueError(f"{source.name} has one class, {source.class_names[0]}")
        held_out, notes = open_held_out(options.data, options.test_split, source)
    except Exception as error:  # noqa: BLE001  a failed evaluation must not end training
        print_no_accuracy(error)
        return None
    print_notes(notes)
    return held_out


def accuracies(train: Features, test: Features, num_classes: int | None) -> dict[str, float]:
    """Compute the accuracies of k-NN and of the exact linear probe on held-out images.

    Both use the mean of the patch tokens. Images with a negative label count as unlabeled and are skipped. The probe is
    fitted to at most `PROBE_IMAGES` images, of the classes with two images or more.

    Args:
        train: `Features` of the training images.
        test: `Features` of the held-out images, with the same class indices.
        num_classes: Integer, or None for the largest label plus 1.

    Returns:
        Dictionary with `knn` and `linear` in [0, 1]. An accuracy that fails is left out; the function prints the reason
        in one line.

    Example:
        >>> features, labels = np.repeat(np.eye(2, dtype="float32"), 4, axis=0), np.repeat([0, 1], 4)
        >>> split = Features(features, features, features, labels)
        >>> accuracies(split, split, num_classes=2)
        {'knn': 1.0, 'linear': 1.0}
    """
    found: dict[str, float] = {}
    (x, y), (test_x, test_y) = (
        (split.mean[split.labels >= 0], split.labels[split.labels >= 0]) for split in (train, test)
    )
    if not len(y) or not len(test_y):
        print_no_accuracy(ValueError("no image of a sample has a label"))
        return found
    try:
        neighbors = min(NEIGHBORS, len(y))
        found["knn"] = knn(x, y, test_x, test_y, k=neighbors, num_classes=num_classes).numbers[f"top1_k{neighbors}"]
        rows = _probe_rows(y)
        found["linear"] = exact_probe(x[rows], y[rows], test_x, test_y, num_classes=num_classes).numbers["top1"]
    except Exception as error:  # noqa: BLE001  a failed evaluation must not end training
        print_no_accuracy(error, "linear probe" if "knn" in found else "k-NN accuracy")
    return found


def _probe_rows(labels):
    """Return the images to which the probe is fitted: as many of each class that has two or more."""
    rows = np.flatnonzero(np.bincount(labels)[labels] >= 2)
    if len(rows) > PROBE_IMAGES:
        rows = rows[draw_indices(labels[rows], per_class=max(2, PROBE_IMAGES // len(np.unique(labels[rows]))))]
    return rows


def print_no_accuracy(error: Exception, name: str = "k-NN accuracy") -> None:
    """Print in one line why an accuracy is missing.

    Args:
        error: Exception.
        name: String. Name of the accuracy. Defaults to `"k-NN accuracy"`.
    """
    print(f"no {name}: {first_line(error)}", flush=True)


def is_small(encoder: keras.Model) -> bool:
    """Return True if the images of an encoder are evaluated uncropped.

    Args:
        encoder: Encoder with the attribute `image_size`.

    Example:
        >>> from keras_siamim import ViTEncoder
        >>> is_small(ViTEncoder(image_size=32, patch_size=4, width=24, depth=1, num_heads=3))
        True
    """
    return max(encoder.image_size) <= SMALL
