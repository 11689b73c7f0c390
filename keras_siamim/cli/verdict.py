"""Verdict at the end of pre-training: the trained encoder beside its baselines. Failed measures end no run."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_siamim._backend import compile_inference
from keras_siamim.callbacks.log_line import format_duration, print_line
from keras_siamim.callbacks.observer import first_line
from keras_siamim.cli.held_out_accuracy import KNN_IMAGES, NEIGHBORS, PROBE_IMAGES, accuracies
from keras_siamim.cli.live import SAMPLE_LIMIT, EvaluationSample
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.sources import Source
from keras_siamim.evaluation.baselines import RawPixels, seeded_initializers
from keras_siamim.evaluation.features import extract_splits
from keras_siamim.evaluation.health import effective_rank
from keras_siamim.evaluation.result import stopwatch
from keras_siamim.recipes import Recipe, build_model
from keras_siamim.reports.comparison import text_table
from keras_siamim.reports.verdict import verdict, verdict_table
from keras_siamim.visualization.cross_view import retrieval
from keras_siamim.visualization.model_figures import predicts_places

# Images of a random sample whose features give the effective rank.
RANK_IMAGES = 512
# Seed of the random model. That of the run would give the weights before training once more.
RANDOM_SEED = 2**31 - 1
# Raw pixels are compared at this size. A linear probe on more of them would take minutes.
RAW_SIDE = 16


@dataclasses.dataclass(frozen=True)
class Samples:
    """Images on which representations are compared.

    Attributes:
        train: `EvaluationSample` of the training images.
        test: `EvaluationSample` of the held-out images with the same class indices, or None for no accuracies.
        num_classes: Integer, or None if the classes have no names.
        pairs: Training batch on which predictions across views are measured, or None for no such measure.
    """

    train: EvaluationSample
    test: EvaluationSample | None = None
    num_classes: int | None = None
    pairs: dict[str, np.ndarray] | None = None


def comparison_samples(
    model: keras.Model,
    source: Source,
    held_out: Source | None,
    ledger: Ledger,
    pairs_of: Callable[[], dict[str, np.ndarray]],
) -> Samples:
    """Draw the images on which the encoder of a run is compared with its baselines.

    Training images that cannot be read are left out. A held-out one prevents accuracies, which would not be those of
    the complete split.

    Args:
        model: Objective.
        source: Source of the training images.
        held_out: Source of the held-out images with the same class indices, or None for no accuracies.
        ledger: `Ledger` of the training images.
        pairs_of: Function that returns a training batch. It is called if the objective predicts across views.
    """
    tolerant, pairs = ledger.with_limit(SAMPLE_LIMIT), None
    if predicts_places(model):
        with _reporting("prediction across views"):
            pairs = pairs_of()
    if held_out is None:
        return Samples(EvaluationSample(source, RANK_IMAGES, model.encoder, tolerant), pairs=pairs)
    return Samples(
        EvaluationSample(source, KNN_IMAGES, model.encoder, tolerant),
        EvaluationSample(held_out, KNN_IMAGES, model.encoder, ledger.with_limit(0)),
        len(source.class_names) or None,
        pairs,
    )


def measure(encoder: keras.Model, samples: Samples, predict: Callable | None = None) -> dict[str, float]:
    """Measure a representation: accuracies on held-out images, effective rank, and prediction across views.

    Features are extracted once for all measures.

    Args:
        encoder: Keras model from images to tokens.
        samples: `Samples`.
        predict: Function from `samples.pairs` to the outputs of the objective of the encoder. Defaults to None, for no
            prediction across views.

    Returns:
        Dictionary with `knn` and `linear` in [0, 1], `rank` of up to 512 training images, and `place` and
        `place_chance` in [0, 1]. A measure that fails is left out; the function prints the reason in one line.
    """
    found: dict[str, float] = {}
    with _reporting("effective rank and accuracies"):
        splits = extract_splits(encoder, [samples.train, *([] if samples.test is None else [samples.test])])
        train = next(splits)
        rows = np.random.default_rng(0).permutation(len(train.mean))[:RANK_IMAGES]
        found["rank"] = effective_rank(train.mean[rows])
        if samples.test is not None:
            with _reporting("k-NN accuracy"):
                found |= accuracies(train, next(splits), samples.num_classes)
    if predict is not None and samples.pairs is not None:
        with _reporting("prediction across views"):
            outputs = predict({name: samples.pairs[name] for name in samples.pairs})
            right = retrieval(*(outputs[name].astype("float32") for name in ("prediction", "target")))
            found |= {"place": right.place, "place_chance": right.place_chance}
    return found


def predictor(model: keras.Model) -> Callable:
    """Return the function for `measure` from a batch to the outputs of an objective, with its weights at each call.

    Args:
        model: Built objective.
    """
    return compile_inference(
        model, lambda batch: model({name: batch[name] for name in model.batch_keys}, training=False)
    )


def measure_baselines(recipe: Recipe, samples: Samples) -> dict[str, dict[str, float]]:
    """Measure what every trained encoder is compared with: a random model of the same recipe, and raw pixels.

    Args:
        recipe: `Recipe` of the run.
        samples: `Samples`.

    Returns:
        Dictionary from `"random"` and `"raw_pixels"` to the result of `measure`.
    """
    found = {}
    with _reporting("random model"):
        with seeded_initializers(RANDOM_SEED):
            model = build_model(recipe, 1)
        found["random"] = measure(model.encoder, samples, predictor(model))
    return {**found, "raw_pixels": measure(RawPixels(RAW_SIDE), samples)}


@contextlib.contextmanager
def _reporting(name: str) -> Iterator[None]:
    """Context that prints an error in one line in place of raising it, because it must not end a run."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  a failed evaluation must not end training
        print(f"no {name}: {first_line(error)}", flush=True)


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
    model: keras.Model,
    recipe: Recipe,
    results: dict[str, Any],
    source: Source,
    held_out: Source | None,
    ledger: Ledger,
    pairs_of: Callable[[], dict[str, np.ndarray]],
) -> None:
    """Measure the trained encoder and its baselines, and print them in a table with a sentence.

    Args:
        model: Trained objective.
        recipe: `Recipe` of the run.
        results: Results of the run, to which the function adds the measures.
        source: Source of the training images.
        held_out: Source of the held-out images, or None for no accuracies.
        ledger: `Ledger` of the training images.
        pairs_of: As in `comparison_samples`.
    """
    with without_retracing_warnings(), stopwatch() as seconds:
        samples = comparison_samples(model, source, held_out, ledger, pairs_of)
        trained = measure(model.encoder, samples, predictor(model))
        if "knn" not in trained:  # without an accuracy of the encoder, none is needed to compare it with
            samples = dataclasses.replace(samples, test=None)
        baselines = measure_baselines(recipe, samples)
    initial = results.get("representations", {}).get("initial", {})
    # An older run has no measures before training.
    measured = {name: found for name, found in {"trained": trained, "initial": initial, **baselines}.items() if found}
    images = 0 if samples.test is None else samples.test.source.size
    sentence = verdict(measured, images)
    results |= {"knn_after": trained.get("knn"), "representations": measured, "verdict": sentence}
    if images:
        neighbors, fitted = min(NEIGHBORS, source.size), min(PROBE_IMAGES, source.size)
        print(f"accuracy of frozen features on {images:,} held-out images: k-NN (k = {neighbors}),")
        print(f"and a linear probe that is fitted to {fitted:,} training images;")
    print(f"effective rank of the features of {min(source.size, RANK_IMAGES)} training images:")
    print_line(text_table(*verdict_table(measured)))
    print_line(f"{sentence} (measured in {format_duration(seconds())})")
