"""Work of the command `detect`: build, train and validate a detector."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_siamim.backbones import ConvNeXtEncoder, ViTEncoder
from keras_siamim.cli.detection_report import detections_of, finish, headline_numbers, percent, score
from keras_siamim.cli.task_run import train_task
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.detection_batches import detection_batches
from keras_siamim.data.detection_recipe import DetectionRecipe, detection_steps_per_epoch
from keras_siamim.data.sources.box_selection import box_sample, with_objects
from keras_siamim.data.sources.boxes import BoxSource
from keras_siamim.detection import MaskRCNN
from keras_siamim.detection.recipes import DetectorRecipe
from keras_siamim.distribution import Distribution
from keras_siamim.optimizers import LayerDecayAdamW, LossScaleOptimizer
from keras_siamim.schedules import WarmupSteps

LEARNING_RATE_IMAGES = 64
WEIGHT_DECAY = 0.1
# Largest numbers of blocks, with the layer decay and the drop path rate of ViT-Base, ViT-Large and ViT-Huge.
_BY_DEPTH = ((23, 0.7, 0.1), (31, 0.8, 0.4), (sys.maxsize, 0.9, 0.5))


def build_detector(
    encoder: ViTEncoder | ConvNeXtEncoder, source: BoxSource, options: argparse.Namespace, recipe: DetectorRecipe
) -> MaskRCNN:
    """Build and compile a detector.

    Args:
        encoder: Pre-trained `ViTEncoder` or `ConvNeXtEncoder`.
        source: `BoxSource` of the training images.
        options: Parsed options of the command.
        recipe: `DetectorRecipe`, for what the options do not have.

    Returns:
        A compiled `MaskRCNN`.

    Raises:
        ValueError: If the encoder is neither of these, or its patch size does not divide the image size.
    """
    keras.utils.set_random_seed(options.seed)
    depth = getattr(encoder, "depth", 0)
    decay, drop_path_rate = next(values for most, *values in _BY_DEPTH if depth <= most)
    model = MaskRCNN(
        encoder,
        len(source.class_names),
        image_size=options.image_size,
        masks=options.masks,
        settings=recipe.detector,
        class_counts=source.images_per_class.tolist() if options.lvis else None,
        window_size=options.window_size,
        drop_path_rate=drop_path_rate,
        seed=options.seed,
        dtype=options.dtype,
    )
    first, second = (round(options.steps * share) for share in recipe.milestones)
    schedule = WarmupSteps(
        options.learning_rate * options.batch_size / LEARNING_RATE_IMAGES,
        min(recipe.warmup_steps, options.steps // 10),
        [first, max(second, first + 1)],  # a very short run would have equal ones
    )
    optimizer = LayerDecayAdamW(
        schedule,
        depth=encoder.num_layers - 1,
        layer_decay=options.layer_decay or decay,
        layers=[encoder.layer_of(variable.path) for variable in model.trainable_variables],
        weight_decay=WEIGHT_DECAY,
    )
    model.compile(LossScaleOptimizer(optimizer) if options.dtype == "mixed_float16" else optimizer)
    return model


def detect(
    run: dict[str, Any],
    encoder: ViTEncoder | ConvNeXtEncoder,
    sources: Sequence[BoxSource],
    folder: Path,
    options: argparse.Namespace,
    recipe: DetectorRecipe,
    distribution: Distribution,
    ledger: Ledger,
) -> None:
    """Train a run from its newest checkpoint to its last step, then score it on the test split.

    Args:
        run: Description of the run. The function adds its results.
        encoder: Pre-trained encoder.
        sources: `BoxSource` of the train split, of the test split and, if there is one, of the validation split.
        folder: Path of the run folder.
        options: Parsed options of the command.
        recipe: `DetectorRecipe`, for what the options do not have.
        distribution: `Distribution` of the processes and devices.
        ledger: `Ledger` of the images.

    Raises:
        ValueError: If the run cannot be resumed, or the data do not fit the options.
        Preempted: On SIGTERM or Ctrl-C, after saving.
        TrainingFailed: If steps are non-finite even after rolling back.
        OSError: If files cannot be written.
    """
    _, test_source, *val_sources = sources
    train_source = with_objects(sources[0], options.masks)
    batch_recipe = DetectionRecipe(
        image_size=options.image_size,
        scale=tuple(options.scale),
        repeat_threshold=recipe.repeat_threshold,
        masks=options.masks,
        max_objects=options.max_objects,
    )
    batch_size = distribution.worker_batch_size(options.batch_size)
    names = train_source.class_names

    def batches_of(progress):
        return detection_batches(
            train_source,
            batch_recipe,
            batch_size=batch_size,
            seed=progress.seed_of_order(options.seed),
            start_step=progress.batches,
            workers=distribution.workers,
            worker=distribution.worker,
            ledger=ledger,
        )

    def validate_after(model, step):
        return validate(model, box_sample(val_sources[0], options.validation_images), options, step)

    model = train_task(
        run,
        folder,
        options,
        distribution,
        ledger,
        build=lambda: build_detector(encoder, train_source, options, recipe),
        batches_of=batches_of,
        per_epoch=detection_steps_per_epoch(train_source, batch_recipe, batch_size, distribution.workers),
        about=[
            f"ViTDet on {keras.config.backend()}: {train_source.size} images of {train_source.name}",
            f"{len(names)} classes: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}",
        ],
        validate=validate_after if val_sources else None,
    )
    finish(model, run, test_source, folder, options, recipe)


def validate(model: MaskRCNN, source: BoxSource, options: argparse.Namespace, step: int) -> dict[str, float]:
    """Compute and print average precision on validation images.

    Args:
        model: `MaskRCNN`.
        source: `BoxSource` of the validation images.
        options: Parsed options of the command.
        step: Integer. Training steps so far.

    Returns:
        Dictionary of `headline_numbers`.
    """
    numbers = headline_numbers(score(source, detections_of(model, source, options), options))
    text = ", ".join(f"{name} {percent(value)}" for name, value in numbers.items())
    print(f"step {step}: {text}, on {source.size} images", flush=True)
    return numbers
