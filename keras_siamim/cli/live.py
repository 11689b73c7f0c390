"""Callbacks that `pretrain` uses by default to show a run while it learns. They change nothing in it."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_siamim import batch as batch_keys
from keras_siamim.callbacks import (
    DataWaitMonitor,
    FeatureHealth,
    Figures,
    LabeledSplits,
    LiveEncoder,
    LogLine,
    LogSchedules,
    OnlineKNN,
    OnlineProbe,
    ReferenceCurve,
)
from keras_siamim.callbacks.log_line import print_line
from keras_siamim.callbacks.observer import first_line
from keras_siamim.cli.held_out_accuracy import is_small
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.input_timing import InputTimer
from keras_siamim.data.pipeline import evaluation_batches, steps_per_epoch, training_batches
from keras_siamim.data.sources import Source, sample_of
from keras_siamim.data.views.paired_views import PairedViews
from keras_siamim.data.views.recipe import ViewRecipe
from keras_siamim.objectives import MomentumObjective
from keras_siamim.recipes import Recipe, build_masking, build_views, reference_band
from keras_siamim.runs.curves import Curves
from keras_siamim.runs.log import RunLog
from keras_siamim.runs.plan import Stage
from keras_siamim.visualization.model_figures import ModelFigures

# Images of the labeled samples, and the number per class that the training sample has at least.
TRAIN_IMAGES, TEST_IMAGES, IMAGES_PER_CLASS = 1000, 500, 20
# Unlabeled images whose features are watched, in two crops each.
WATCHED_IMAGES = 128
# Share of the training time that the probes and the watching of features may take, each.
SHARE = 0.015
# Training on an image takes about as long as this many forward passes of the encoder.
PASSES_PER_IMAGE = 4
# Steps between two measurements of the features, at least; and measurements in a run, at least.
MIN_STEPS, MEASUREMENTS_PER_RUN = 50, 6
# Images of the figures' numbers, and the number of times that figures are drawn in a run.
FIGURE_IMAGES, FIGURES_PER_RUN = 64, 4
# Fraction of a sample's images that may be bad: a few of all images can be many of a small sample.
SAMPLE_LIMIT = 0.5
# Decoded samples up to this size stay in memory.
CACHED_BYTES = 1 << 28


class EvaluationSample:
    """Images of a source with labels, as batches that can be iterated again: a random sample over all classes.

    Small samples are decoded once. Unreadable images are left out. The labels of an unlabeled source are -1.

    Args:
        source: Source of images.
        images: Integer. Size of the sample.
        encoder: Encoder with the attribute `image_size`.
        ledger: `Ledger` of the unreadable images.
    """

    def __init__(self, source: Source, images: int, encoder: keras.Model, ledger: Ledger):
        self.source, self.ledger = sample_of(source, images), ledger
        self.size = encoder.image_size
        self.resize = encoder.image_size if is_small(encoder) else None
        self._keep = 12 * math.prod(self.size) * self.source.size <= CACHED_BYTES
        self._kept: list[tuple[np.ndarray, np.ndarray]] | None = None

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if self._kept is None:
            if not self._keep:
                yield from self._pairs()
                return
            self._kept = list(self._pairs())
        yield from self._kept

    def _pairs(self):
        batches = evaluation_batches(self.source, self.size, 128, self.resize, self.ledger)
        with self.ledger.short_errors():
            for batch in batches.as_numpy_iterator():
                images = batch[batch_keys.VIEW_1]
                yield images, batch.get(batch_keys.LABEL, np.full(len(images), -1))


def two_crops(
    source: Source, image_size: tuple[int, int], area: tuple[float, float], images: int, ledger: Ledger
) -> np.ndarray:
    """Return two random crops of each image of a random sample, without changes of color.

    Args:
        source: Source of images.
        image_size: Tuple (height, width) in pixels.
        area: Tuple (low, high). Range of the area of the crops as a fraction of the image.
        images: Integer. Maximum number of images.
        ledger: `Ledger` of unreadable images, which others replace.

    Returns:
        (2, images, height, width, 3) float32, normalized.

    Example:
        >>> from keras_siamim.data.sources import array_source
        >>> images = array_source(np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), "uint8"))
        >>> two_crops(images, (8, 8), (0.5, 1.0), 4, Ledger()).shape
        (2, 4, 8, 8, 3)
    """
    sample = sample_of(source, images)
    crop = ViewRecipe.crop_and_flip(area=area, flip_probability=0.0)
    batches = training_batches(
        sample,
        PairedViews(image_size, crop, crop),
        batch_size=sample.size,
        shuffle=False,
        ledger=ledger,
    )
    batch = next(batches.as_numpy_iterator())
    return np.stack([batch[batch_keys.VIEW_1], batch[batch_keys.VIEW_2]])


def figure_batch(source: Source, recipe: Recipe, grid: tuple[int, int], ledger: Ledger) -> dict[str, np.ndarray]:
    """Return one training batch of up to `FIGURE_IMAGES` images at random, always the same for a recipe.

    Args:
        source: Source of the training images.
        recipe: `Recipe` of the run.
        grid: Tuple (rows, columns) of patches.
        ledger: `Ledger` of unreadable images, which others replace.

    Returns:
        Dictionary of arrays, see `keras_siamim.batch`.
    """
    sample = sample_of(source, FIGURE_IMAGES)
    views, masking = build_views(recipe), build_masking(recipe, grid)
    return next(
        training_batches(
            sample,
            views,
            masking,
            batch_size=sample.size,
            seed=recipe.seed,
            shuffle=False,
            ledger=ledger.with_limit(SAMPLE_LIMIT),
        ).as_numpy_iterator()
    )


def figure_interval(recipe: Recipe) -> int:
    """Return the number of epochs between two times that figures are drawn and the page of the run is written."""
    return max(1, round(recipe.epochs / FIGURES_PER_RUN))


def observers(
    model: keras.Model,
    stage: Stage,
    run: dict[str, Any],
    source: Source,
    held_out: Source | None,
    folder: pathlib.Path,
    timer: InputTimer,
    writes: bool,
    ledger: Ledger,
    pairs_of: Callable[[], dict[str, np.ndarray]],
) -> list[keras.callbacks.Callback]:
    """Create the callbacks that observe a run, write its log and print it.

    Args:
        model: Objective.
        stage: Current `Stage` of the run.
        run: Description of the run.
        source: Source of the training images.
        held_out: Source of the held-out images with the same class indices, or None for no accuracies.
        folder: Path of the run folder.
        timer: `InputTimer` of the training data.
        writes: Bool. Write and print; one of the processes that train together does.
        ledger: `Ledger` of the training images. Bad images of all samples are added to it.
        pairs_of: Function that returns the training batch for the figures.
    """
    tolerant = ledger.with_limit(SAMPLE_LIMIT)
    report: Callable[[str], object] = print_line if writes else _ignore
    recipe, epochs = stage.recipe, stage.last_epoch
    log = RunLog(folder, writes=writes)

    def failing(name, create):
        try:
            return create()
        except Exception as error:  # noqa: BLE001  a failed observation must not end training
            report(f"no {name}: {first_line(error).rstrip('.')}. Training goes on.")
            return []

    def accuracies():
        if held_out is None:
            return []
        count = max(TRAIN_IMAGES, IMAGES_PER_CLASS * len(source.class_names))
        train = EvaluationSample(source, count, model.encoder, tolerant)
        test = EvaluationSample(held_out, TEST_IMAGES, model.encoder, tolerant)
        splits = LabeledSplits(train, test, LiveEncoder())
        every = _every(train.source.size + test.source.size, source.size)
        return [OnlineKNN(splits, every, report=report), OnlineProbe(splits, every, report=report)]

    def health():
        low = max(0.5, recipe.keys()["view_1.area"][0])
        crops = two_crops(source, model.encoder.image_size, (low, 1.0), WATCHED_IMAGES, tolerant)
        # Objectives without a momentum branch have no target to watch.
        branch = model.target if isinstance(model, MomentumObjective) else None
        target = None if branch is None else LiveEncoder(branch)
        steps = _every((1 if target is None else 2) * crops.shape[0] * crops.shape[1], recipe.batch_size)
        steps_of_run = recipe.epochs * steps_per_epoch(source, recipe.batch_size)
        steps = max(1, min(max(steps, MIN_STEPS), steps_of_run // MEASUREMENTS_PER_RUN))
        return [FeatureHealth(crops, steps, target=target, report=report)]

    def figures():
        drawn = ModelFigures(model, pairs_of()).figures()
        return [Figures(folder / "figures", drawn, figure_interval(recipe), log.events, writes, report)]

    # A schedule that was extended has no recorded runs.
    band = None if run["extensions"] else reference_band(recipe, run["data"]["identity"])
    measuring = [
        *failing("accuracies of held-out images", accuracies),
        *failing("health of the features", health),
        *failing("figures", figures),
    ]
    curves = [Curves(folder, report=report)] if writes else []
    for callback in (*measuring, *curves):
        callback.last_epoch = epochs
    return [
        LogSchedules(),
        DataWaitMonitor(timer),
        *measuring,
        ReferenceCurve(band, report=None),
        log,
        *curves,
        LogLine(epochs, report=report),
    ]


def _every(images, images_per_unit):
    """Return the interval, in epochs or steps, at which forward passes of images take `SHARE` of the training time."""
    return max(1, math.ceil(images / (SHARE * PASSES_PER_IMAGE * images_per_unit)))


def _ignore(line):
    pass
