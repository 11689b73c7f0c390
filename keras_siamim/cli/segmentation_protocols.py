"""Protocols of `evaluate` on images with label maps: frozen patch tokens segment images."""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from keras_siamim.cli.label_map_options import add_label_map_options
from keras_siamim.cli.labeled_batches import Batches
from keras_siamim.cli.options import count_option
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.label_map_batches import (
    IMAGES,
    LABELS,
    CropRecipe,
    WholeImages,
    label_map_training_batches,
    squashed_label_maps,
)
from keras_siamim.data.sources.label_maps import LabelMapSource
from keras_siamim.evaluation.knn_segmentation import knn_segmentation
from keras_siamim.evaluation.logistic_segmentation import logistic_segmentation
from keras_siamim.evaluation.patch_features import extract_patch_features
from keras_siamim.evaluation.result import EvaluationResult
from keras_siamim.segmentation.linear import BATCH_SIZE, STEPS, WARMUP_STEPS, linear_segmentation

KNN, LOGISTIC, LINEAR = "segmentation_knn", "segmentation_logistic", "segmentation_linear"
SEGMENTATION_PROTOCOLS = (KNN, LOGISTIC, LINEAR)


def add_segmentation_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the segmentation protocols to a parser.

    Args:
        parser: An `argparse.ArgumentParser`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_segmentation_options(parser)
        >>> parser.parse_args([]).steps
        40000
    """
    add_label_map_options(parser)
    parser.add_argument(
        "--steps", type=count_option, default=STEPS, help=f"{LINEAR}: training steps; default: %(default)s"
    )
    parser.add_argument(
        "--crop-size", type=count_option, help=f"{LINEAR}: side of crops and windows; default: the image size"
    )
    parser.add_argument(
        "--short-side", type=count_option, help=f"{LINEAR}: shorter side of images; default: the crop size"
    )


def squashed_label_map_batches(source: LabelMapSource, image_size: tuple[int, int], batch_size: int) -> Batches:
    """Return all images of a source with their label maps, squashed to one size.

    Args:
        source: `LabelMapSource`.
        image_size: Tuple (height, width) in pixels.
        batch_size: Integer. Images per batch.

    Returns:
        `Batches` of images (batch, height, width, 3) float32 and label maps (batch, height, width) uint8.
    """
    ledger = Ledger(limit=0)
    batches = squashed_label_maps(source, image_size, batch_size, ledger)
    batches = batches.map(lambda batch: (batch[IMAGES], batch[LABELS]))
    return Batches(batches, -(-source.size // batch_size), ledger)


def run_segmentation(
    name: str,
    encoder: Any,
    sources: Sequence[LabelMapSource],
    protocols: Sequence[str],
    image_size: tuple[int, int],
    options: argparse.Namespace,
) -> list[EvaluationResult]:
    """Run segmentation protocols on a frozen encoder.

    Args:
        name: String. Name of the encoder.
        encoder: Encoder to evaluate.
        sources: The `LabelMapSource` of the train split and that of the test split.
        protocols: Strings, some of `SEGMENTATION_PROTOCOLS`.
        image_size: Tuple (height, width) in pixels.
        options: Parsed options of the command.
    """
    results = []
    classes: dict[str, Any] = {"num_classes": sources[0].num_classes, "class_names": sources[0].class_names}
    if set(protocols) & {KNN, LOGISTIC}:
        print(f"{name}: patch features", flush=True)
        train, test = (
            extract_patch_features(
                encoder, squashed_label_map_batches(source, image_size, options.batch_size), options.cache, verbose=1
            )
            for source in sources
        )
        for protocol, function in ((KNN, knn_segmentation), (LOGISTIC, logistic_segmentation)):
            if protocol in protocols:
                print(f"{name}: {protocol}", flush=True)
                results.append(function(train, test, **classes, seed=options.seed, verbose=1))
    if LINEAR in protocols:
        print(f"{name}: {LINEAR}", flush=True)
        results.append(_linear(encoder, sources, classes, image_size, options))
    return results


def _linear(encoder, sources, classes, image_size, options):
    crop_size = (options.crop_size, options.crop_size) if options.crop_size else image_size
    recipe = CropRecipe(crop_size, options.short_side, largest_share=1.0, distorted=False)
    ledger = Ledger(limit=0)
    batch_size = min(BATCH_SIZE, sources[0].size)
    batches = label_map_training_batches(sources[0], recipe, batch_size, options.seed, ledger=ledger)
    result = linear_segmentation(
        encoder,
        Batches(batches.take(options.steps), options.steps, ledger),
        WholeImages(sources[1], recipe.side),
        window=crop_size,
        steps=options.steps,
        warmup_steps=options.steps * WARMUP_STEPS // STEPS,
        seed=options.seed,
        verbose=1,
        **classes,
    )
    return dataclasses.replace(result, settings={**result.settings, "short_side": recipe.side})
