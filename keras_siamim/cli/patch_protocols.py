"""Protocols of `evaluate` on the patch tokens of a frozen encoder."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_siamim.backbones import ViTEncoder
from keras_siamim.batch import VIEW_1
from keras_siamim.cli.label_map_options import open_label_map_splits
from keras_siamim.cli.labeled_batches import Batches, open_labeled_pair, plain_batches
from keras_siamim.cli.options import short_name
from keras_siamim.cli.segmentation_protocols import SEGMENTATION_PROTOCOLS, run_segmentation
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.box_batches import POSITION, box_batches
from keras_siamim.data.sources.boxes import BoxSource, open_boxes
from keras_siamim.evaluation.attentive_probe import attentive_probe
from keras_siamim.evaluation.baselines import random_initialized
from keras_siamim.evaluation.box_localization import box_localization
from keras_siamim.evaluation.long_tailed_probe import long_tailed_probe
from keras_siamim.evaluation.object_discovery import extract_keys, object_discovery
from keras_siamim.evaluation.patch_features import PatchFeatures, RawPatches, extract_patch_features
from keras_siamim.evaluation.result import EvaluationResult

# Protocols by the annotations that they need.
LABELED = ("attentive", "long_tail")
BOXED = ("localization", "corloc")
PATCH_PROTOCOLS = (*SEGMENTATION_PROTOCOLS, *LABELED, *BOXED)

# Values of concatenated tokens per image above which localization projects the channels first.
_LOCALIZATION_VALUES = 8192


def squashed_batches(source: BoxSource, image_size: tuple[int, int], batch_size: int) -> Batches:
    """Return all images of a source, squashed to one size, with the positions of their annotations.

    Args:
        source: `BoxSource`.
        image_size: Tuple (height, width) in pixels.
        batch_size: Integer. Images per batch.

    Returns:
        `Batches` of images (batch, height, width, 3) float32 and positions (batch,) int64.
    """
    ledger = Ledger(limit=0)
    batches = box_batches(source, image_size, batch_size, ledger).map(lambda batch: (batch[VIEW_1], batch[POSITION]))
    return Batches(batches, -(-source.size // batch_size), ledger)


def encoders_of(options: argparse.Namespace, encoder: Any, image_size: tuple[int, int]) -> dict[str, Any]:
    """Return the encoder and its baselines by the names of their rows.

    Args:
        options: Parsed options of the command.
        encoder: Encoder to evaluate.
        image_size: Tuple (height, width) in pixels.

    Returns:
        A dictionary: raw patches, the random initialization of a Keras model, and the encoder.
    """
    encoders: dict[str, Any] = {}
    if not options.no_baselines:
        patch_size = getattr(encoder, "patch_size", None) or _patch_size(encoder, image_size)
        encoders["raw patches"] = RawPatches(patch_size)
        if isinstance(encoder, keras.Model):
            encoders["random initialization"] = random_initialized(encoder, (*image_size, 3), options.seed)
    encoders[options.name or short_name(options.encoder)] = encoder
    return encoders


def _patch_size(encoder, image_size):
    images = np.zeros((1, *image_size, 3), "float32")
    grid = extract_patch_features(encoder, [(images, np.zeros(1))]).grid
    return image_size[0] // grid[0]


def evaluate_patches(
    options: argparse.Namespace,
    protocols: Sequence[str],
    encoder: Any,
    image_size: tuple[int, int],
    report: Callable[[dict[str, list[EvaluationResult]]], None],
) -> dict[str, list[EvaluationResult]]:
    """Run protocols on patch tokens.

    Args:
        options: Parsed options of the command.
        protocols: Strings, some of `PATCH_PROTOCOLS`.
        encoder: Encoder to evaluate.
        image_size: Tuple (height, width) in pixels.
        report: Function that writes the results so far.

    Returns:
        A dictionary from the name of each encoder to its list of `EvaluationResult`.

    Raises:
        ValueError: If the images have no labels, label maps or boxes, or the encoder has no spatial tokens.
    """
    if "corloc" in protocols and not isinstance(encoder, ViTEncoder):
        raise ValueError(
            "`--encoder` must be a ViTEncoder for corloc, which needs the keys of its last attention layer. Received: "
            f"{options.encoder}."
        )
    splits = options.train_split, options.test_split
    labeled_splits, num_classes, boxed, boxed_splits, mapped = [], 0, [], [], []
    if set(protocols) & set(SEGMENTATION_PROTOCOLS):
        mapped = open_label_map_splits(options, splits)
    if set(protocols) & set(LABELED):
        limits = (options.max_images, options.max_images)
        labeled = open_labeled_pair(options.data, *splits, *limits, options.seed)
        labeled_splits = [plain_batches(part, image_size, options.batch_size, options.resize) for part in labeled]
        num_classes = len(labeled[0].class_names)
    if set(protocols) & set(BOXED):
        boxed = [open_boxes(options.data, split) for split in splits]
        boxed_splits = [squashed_batches(source, image_size, options.batch_size) for source in boxed]
    rows: dict[str, list[EvaluationResult]] = {}
    for name, candidate in encoders_of(options, encoder, image_size).items():
        rows[name] = []
        if mapped:
            rows[name] += run_segmentation(name, candidate, mapped, protocols, image_size, options)
            report(rows)
        if labeled_splits:
            train, test = (_features(name, candidate, split, options) for split in labeled_splits)
            for protocol in (each for each in protocols if each in LABELED):
                print(f"{name}: {protocol}", flush=True)
                rows[name].append(run_labeled(protocol, train, test, num_classes, options.seed))
                report(rows)
        if boxed:
            rows[name] += run_boxed(name, candidate, boxed, boxed_splits, protocols, image_size, options)
            report(rows)
    return rows


def _features(name, encoder, batches, options):
    print(f"{name}: patch features", flush=True)
    return extract_patch_features(encoder, batches, options.cache, verbose=1)


def run_labeled(
    protocol: str, train: PatchFeatures, test: PatchFeatures, num_classes: int, seed: int
) -> EvaluationResult:
    """Run a protocol that needs labels.

    Args:
        protocol: String, one of `LABELED`.
        train: `PatchFeatures` with labels.
        test: `PatchFeatures` with labels.
        num_classes: Integer. Number of classes.
        seed: Integer. Seed of all randomness.
    """
    if protocol == "attentive":
        splits = ((train.tokens, train.annotations), (test.tokens, test.annotations))
        return attentive_probe(*splits, num_classes, seed=seed)
    pooled = (train.tokens.mean(axis=1), train.annotations, test.tokens.mean(axis=1), test.annotations)
    return long_tailed_probe(*pooled, seed=seed, num_classes=num_classes, verbose=1)


def run_boxed(
    name: str,
    encoder: Any,
    sources: Sequence[BoxSource],
    batches: Sequence[Batches],
    protocols: Sequence[str],
    image_size: tuple[int, int],
    options: argparse.Namespace,
) -> list[EvaluationResult]:
    """Run the protocols that need boxes: localization of one box, and object discovery on the test split.

    Args:
        name: String. Name of the encoder.
        encoder: Encoder to evaluate. Object discovery skips one that is not a `ViTEncoder`.
        sources: The `BoxSource` of the train split and that of the test split.
        batches: The `squashed_batches` of both.
        protocols: Strings, some of `BOXED`.
        image_size: Tuple (height, width) in pixels.
        options: Parsed options of the command.
    """
    results = []
    if "localization" in protocols:
        print(f"{name}: localization", flush=True)
        tokens, single_boxes = [], []
        for source, split in zip(sources, batches, strict=True):
            used, boxes = source.annotations.single()
            tokens.append(_features(name, encoder, split, options).tokens[used])
            single_boxes.append(boxes)
        patches, width = tokens[0].shape[1:]
        channels = None if patches * width <= _LOCALIZATION_VALUES else max(1, _LOCALIZATION_VALUES // patches)
        splits = (tokens[0], single_boxes[0], tokens[1], single_boxes[1])
        results.append(box_localization(*splits, channels=channels, seed=options.seed, verbose=1))
    if "corloc" in protocols and isinstance(encoder, ViTEncoder):
        print(f"{name}: corloc", flush=True)
        keys, grid = extract_keys(encoder, (images for images, _ in batches[1]), verbose=1)
        per_image = sources[1].annotations.scaled(image_size).per_image()
        results.append(object_discovery(keys, grid, per_image, image_size, verbose=1))
    return results
