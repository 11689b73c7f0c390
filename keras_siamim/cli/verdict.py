"""Verdict at the end of pre-training: the trained encoder beside its baselines. Failed measures end no run."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_siamim.callbacks.log_line import print_line
from keras_siamim.callbacks.observer import first_line
from keras_siamim.cli.held_out_accuracy import KNN_IMAGES, NEIGHBORS, is_small, knn_accuracy
from keras_siamim.cli.live import SAMPLE_LIMIT
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.pipeline import evaluation_batches
from keras_siamim.data.sources import Source, sample_of
from keras_siamim.evaluation.baselines import RawPixels, random_initialized
from keras_siamim.evaluation.features import extract_features
from keras_siamim.evaluation.health import effective_rank
from keras_siamim.reports.comparison import text_table
from keras_siamim.reports.verdict import HEADER, verdict, verdict_rows

# Images of a random sample whose features give the effective rank.
RANK_IMAGES = 512
# Seed of the random encoder. That of the run would give the weights before training once more.
RANDOM_SEED = 2**31 - 1


def measure(encoder: keras.Model, source: Source, held_out: Source | None, ledger: Ledger) -> dict[str, float]:
    """Measure the features of an encoder: k-NN accuracy on held-out images, and effective rank.

    Args:
        encoder: Keras model from images to tokens, with the attribute `image_size`.
        source: Source of the training images.
        held_out: Source of the held-out images with the same class indices, or None for no accuracy.
        ledger: `Ledger` of the training images.

    Returns:
        Dictionary with `knn` in [0, 1] and `rank` of up to 512 training images. A measure that fails is left out; the
        function prints the reason in one line.
    """
    found = {}
    if (accuracy := knn_accuracy(encoder, source, held_out, ledger)) is not None:
        found["knn"] = accuracy[0]
    try:
        resize = encoder.image_size if is_small(encoder) else None
        sample = sample_of(source, RANK_IMAGES)
        tolerant = Ledger(limit=SAMPLE_LIMIT)
        batches = evaluation_batches(sample, encoder.image_size, 128, resize, tolerant).as_numpy_iterator()
        pairs = ((batch["view_1"], np.zeros(len(batch["view_1"]), "int32")) for batch in batches)
        found["rank"] = effective_rank(extract_features(encoder, pairs).mean)
    except Exception as error:  # noqa: BLE001  a failed evaluation must not end training
        print(f"no effective rank: {first_line(error)}", flush=True)
    return found


def measure_baselines(
    encoder: keras.Model, source: Source, held_out: Source | None, ledger: Ledger
) -> dict[str, dict[str, float]]:
    """Measure what every trained encoder is compared with: a random encoder of its architecture, and raw pixels.

    Args:
        encoder: Encoder with the attribute `image_size`. It stays unchanged.
        source: Source of the training images.
        held_out: As for `measure`.
        ledger: `Ledger` of the training images.

    Returns:
        Dictionary from `"random"` and `"raw_pixels"` to the result of `measure`.
    """
    pixels = RawPixels()
    pixels.image_size = encoder.image_size
    random = random_initialized(encoder, (*encoder.image_size, 3), seed=RANDOM_SEED)
    return {name: measure(one, source, held_out, ledger) for name, one in (("random", random), ("raw_pixels", pixels))}


@contextlib.contextmanager
def without_retracing_warnings() -> Iterator[None]:
    """Context without TensorFlow's warning about functions that are traced often.

    Each encoder is traced a few times, and has few batches of a small data set. A reader could only wonder about it.
    """
    logger = logging.getLogger("tensorflow")

    def keep(record):
        return "triggered tf.function retracing" not in record.getMessage()

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def give_verdict(
    encoder: keras.Model, results: dict[str, Any], source: Source, held_out: Source | None, ledger: Ledger
) -> None:
    """Measure the trained encoder and its baselines, and print them in a table with a sentence.

    Args:
        encoder: Trained encoder.
        results: Results of the run, to which the function adds the measures.
        source: Source of the training images.
        held_out: Source of the held-out images, or None for no k-NN evaluation.
        ledger: `Ledger` of the training images.
    """
    with without_retracing_warnings():
        trained = measure(encoder, source, held_out, ledger)
        # Without an accuracy of the encoder, none is needed to compare it with.
        baselines = measure_baselines(encoder, source, held_out if "knn" in trained else None, ledger)
    initial = results.get("representations", {}).get("initial", {})
    # An older run has no measures before training.
    measured = {name: found for name, found in {"trained": trained, "initial": initial, **baselines}.items() if found}
    images = 0 if held_out is None else min(held_out.size, KNN_IMAGES)
    sentence = verdict(measured, images)
    results |= {"knn_after": trained.get("knn"), "representations": measured, "verdict": sentence}
    if images:
        print(f"k-NN accuracy (k = {min(NEIGHBORS, source.size)}) of frozen features on {images} held-out images;")
    print(f"effective rank of the features of {min(source.size, RANK_IMAGES)} training images:")
    print_line(text_table(HEADER, verdict_rows(measured)))
    print_line(sentence)
