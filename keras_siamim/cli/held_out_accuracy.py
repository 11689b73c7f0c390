"""k-NN accuracy of an encoder on held-out images, beside pre-training: it reports its own failures and ends no run."""

from __future__ import annotations

import argparse

import keras
import numpy as np

from keras_siamim.callbacks.observer import first_line
from keras_siamim.cli.labeled_batches import print_notes
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.pipeline import evaluation_batches
from keras_siamim.data.sources import Source, has_labels, open_held_out, sample_of
from keras_siamim.evaluation.features import extract_features
from keras_siamim.evaluation.knn import knn

# Maximum number of images per split for k-NN, a random sample over all classes.
KNN_IMAGES = 50_000
NEIGHBORS = 20
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
        _print_no_accuracy(error)
        return None
    print_notes(notes)
    return held_out


def knn_accuracy(
    encoder: keras.Model, source: Source, held_out: Source | None, ledger: Ledger
) -> tuple[float, int] | None:
    """Compute the k-NN accuracy of an encoder on held-out images.

    Splits of more than 50,000 images are replaced by random samples of that size. Training images that cannot be read
    are skipped and recorded in the ledger; a held-out image that cannot be read prevents the evaluation. Images with a
    negative label count as unlabeled and are skipped.

    Args:
        encoder: Keras model from images to tokens.
        source: Source of the training images.
        held_out: Source of the held-out images with the same class indices, or None.
        ledger: `Ledger` of the training images.

    Returns:
        accuracy: Float in [0, 1].
        neighbors: Integer. Number of neighbors, at most 20 and at most the number of training images.

        None if `held_out` is None or the evaluation fails. In the latter case the function prints the reason in one
        line.
    """
    if held_out is None:
        return None
    try:
        train = knn_features(encoder, source, ledger)
        test = knn_features(encoder, held_out, Ledger(limit=0))
        if not len(train[1]) or not len(test[1]):
            raise ValueError("no image of a sample has a label")
        neighbors = min(NEIGHBORS, len(train[1]))
        result = knn(*train, *test, k=neighbors, num_classes=len(source.class_names) or None)
    except Exception as error:  # noqa: BLE001  a failed evaluation must not end training
        _print_no_accuracy(error)
        return None
    return result.numbers[f"top1_k{neighbors}"], neighbors


def _print_no_accuracy(error):
    print(f"no k-NN accuracy: {first_line(error)}", flush=True)


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


def knn_features(encoder: keras.Model, source: Source, ledger: Ledger) -> tuple[np.ndarray, np.ndarray]:
    """Extract features and labels of the labeled images of a source, at most `KNN_IMAGES` at random.

    Args:
        encoder: Keras model from images to tokens.
        source: Source of labeled images.
        ledger: `Ledger` of these images.

    Returns:
        features: Array (images, width) float32, mean-pooled.
        labels: Integer array (images,).

    Example:
        >>> from keras_siamim import ViTEncoder
        >>> from keras_siamim.data.sources import array_source
        >>> encoder = ViTEncoder(image_size=8, patch_size=4, width=24, depth=1, num_heads=3)
        >>> images = array_source(np.zeros((2, 8, 8, 3), "uint8"), labels=[1, 0])
        >>> knn_features(encoder, images, Ledger())[0].shape
        (2, 24)
    """
    resize = encoder.image_size if is_small(encoder) else None
    sample = sample_of(source, KNN_IMAGES)
    batches = evaluation_batches(sample, encoder.image_size, 250, resize, ledger).as_numpy_iterator()
    with ledger.short_errors():
        features = extract_features(encoder, ((batch["view_1"], batch["label"]) for batch in batches))
    labeled = features.labels >= 0
    return features.mean[labeled], features.labels[labeled]
