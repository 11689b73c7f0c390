"""Work of the command `segment`: build, train, validate and score a segmenter."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_siamim.backbones import ConvNeXtEncoder, ViTEncoder
from keras_siamim.cli.options import short_name
from keras_siamim.cli.task_run import train_task
from keras_siamim.data.bad_images import BAD_IMAGES, Ledger
from keras_siamim.data.label_map_batches import CropRecipe, WholeImages, label_map_training_batches, resized_to_fit
from keras_siamim.data.pipeline import steps_per_epoch
from keras_siamim.data.sources.label_maps import LabelMapSource
from keras_siamim.distribution import Distribution
from keras_siamim.evaluation import suite
from keras_siamim.evaluation.mean_iou import SegmentationScores
from keras_siamim.evaluation.result import EvaluationResult
from keras_siamim.evaluation.segmentation_protocol import class_numbers
from keras_siamim.export import export_segmenter
from keras_siamim.files import replace_atomically, write_atomically
from keras_siamim.optimizers import LayerDecayAdamW, LossScaleOptimizer
from keras_siamim.runs import description as descriptions
from keras_siamim.schedules import WarmupLinearDecay
from keras_siamim.segmentation import UPerNet, score_images
from keras_siamim.segmentation.scoring import label_map_of
from keras_siamim.visualization.segmentations import save_segmentations

# Settings of ADE20k in mmsegmentation, from which the results name every deviation.
STEPS, WARMUP_STEPS, BATCH_SIZE, CROP_SIZE, LEARNING_RATE = 160_000, 1500, 16, 512, 1e-4
PICTURES = 4


def build_segmenter(encoder: ViTEncoder | ConvNeXtEncoder, num_classes: int, options: argparse.Namespace) -> UPerNet:
    """Build and compile a segmenter.

    Args:
        encoder: Pre-trained `ViTEncoder` or `ConvNeXtEncoder`.
        num_classes: Integer. Number of classes.
        options: Parsed options of the command.

    Returns:
        A compiled `UPerNet`. With `frozen`, the weights from the encoder are not trained.

    Raises:
        ValueError: If the encoder is neither of these, or its patch size does not divide the crop size.
    """
    keras.utils.set_random_seed(options.seed)
    model = UPerNet(
        encoder,
        num_classes,
        crop_size=options.crop_size,
        head_width=options.head_width,
        auxiliary_width=min(256, options.head_width or 256),
        drop_path_rate=0.0 if options.frozen else 0.1,
        dtype=options.dtype,
    )
    if options.frozen:
        for variable in model.backbone.trainable_variables:
            variable.trainable = False
    rate = options.learning_rate * options.batch_size / BATCH_SIZE
    schedule = WarmupLinearDecay(rate, options.steps * WARMUP_STEPS // STEPS, options.steps)
    decay = options.layer_decay or (0.65 if encoder.num_layers > 7 else 0.75)
    layers = [encoder.layer_of(variable.path) for variable in model.trainable_variables]
    optimizer = LayerDecayAdamW(
        schedule, depth=encoder.num_layers - 1, layer_decay=decay, layers=layers, decay_tokens=True
    )
    model.compile(LossScaleOptimizer(optimizer) if options.dtype == "mixed_float16" else optimizer)
    return model


def segment(
    run: dict[str, Any],
    encoder: ViTEncoder | ConvNeXtEncoder,
    sources: Sequence[LabelMapSource],
    folder: Path,
    options: argparse.Namespace,
    distribution: Distribution,
) -> None:
    """Train a run from its newest checkpoint to its last step, then score it on the test split.

    Args:
        run: Description of the run. The function adds its results.
        encoder: Pre-trained encoder.
        sources: `LabelMapSource` of the train split, of the test split and, if there is one, of the validation split.
        folder: Path of the run folder.
        options: Parsed options of the command.
        distribution: `Distribution` of the processes and devices.

    Raises:
        ValueError: If the run cannot be resumed, or the data do not fit the options.
        Preempted: On SIGTERM or Ctrl-C, after saving.
        TrainingFailed: If steps are non-finite even after rolling back.
        OSError: If files cannot be written.
    """
    train_source, test_source, *val_sources = sources
    recipe = CropRecipe(options.crop_size, options.short_side)
    ledger = Ledger(folder / BAD_IMAGES)
    batch_size = distribution.worker_batch_size(options.batch_size)
    per_epoch = steps_per_epoch(train_source.images, batch_size, distribution.workers)

    def batches_of(progress):
        epoch, step = divmod(progress.batches, per_epoch)
        return label_map_training_batches(
            train_source,
            recipe,
            batch_size,
            progress.seed_of_order(options.seed),
            epoch,
            step,
            workers=distribution.workers,
            worker=distribution.worker,
            ledger=ledger,
        )

    model = train_task(
        run,
        folder,
        options,
        distribution,
        ledger,
        build=lambda: build_segmenter(encoder, train_source.num_classes, options),
        batches_of=batches_of,
        per_epoch=per_epoch,
        about=[
            f"UPerNet on {keras.config.backend()}: {train_source.size} images of {train_source.name}",
            f"{train_source.num_classes} classes: {', '.join(train_source.class_names)}",
        ],
        validate=(lambda model, step: validate(model, val_sources[0], recipe, options, step)) if val_sources else None,
    )
    finish(model, run, test_source, recipe, folder, options)


def validate(
    model: UPerNet, source: LabelMapSource, recipe: CropRecipe, options: argparse.Namespace, step: int
) -> dict[str, float]:
    """Compute and print the mean IoU on validation images.

    Args:
        model: `UPerNet`.
        source: `LabelMapSource` of the validation split.
        recipe: `CropRecipe` of the run.
        options: Parsed options of the command.
        step: Integer. Training steps so far.

    Returns:
        Dictionary of `SegmentationScores.numbers`.
    """
    scores = scores_of(model, source, recipe, options.validation_images)
    images = min(source.size, options.validation_images)
    print(
        f"step {step}: mIoU {scores.mean_iou:.1%}, pixels {scores.pixel_accuracy:.1%}, on {images} images", flush=True
    )
    return scores.numbers()


def scores_of(
    model: UPerNet, source: LabelMapSource, recipe: CropRecipe, limit: int | None = None, verbose: int = 0
) -> SegmentationScores:
    """Score a segmenter with sliding windows on label maps of the original size.

    Args:
        model: `UPerNet`.
        source: `LabelMapSource`.
        recipe: `CropRecipe` of the run.
        limit: Integer. Number of images, or None for all. Defaults to None.
        verbose: Integer. 1 shows a progress bar. Defaults to 0.
    """
    examples = WholeImages(source, recipe.side, limit)
    return score_images(model.sliding_logits, examples, source.num_classes, model.ignore, verbose)


def finish(
    model: UPerNet,
    run: dict[str, Any],
    source: LabelMapSource,
    recipe: CropRecipe,
    folder: Path,
    options: argparse.Namespace,
) -> None:
    """Save the segmenter, score the test split, write tables and a figure, and record that the run is finished.

    Args:
        model: Trained `UPerNet`.
        run: Description of the run. The function adds its results.
        source: `LabelMapSource` of the test split.
        recipe: `CropRecipe` of the run.
        folder: Path of the run folder.
        options: Parsed options of the command.
    """
    with replace_atomically(folder / "segmenter.keras") as staging:
        model.save(staging)
    print(f"test: {source.size} images of {source.name}", flush=True)
    scores = scores_of(model, source, recipe, verbose=1 if sys.stdout.isatty() else 0)
    used = {"steps": options.steps, "batch_size": options.batch_size, "crop_size": options.crop_size}
    method = {"steps": STEPS, "batch_size": BATCH_SIZE, "crop_size": CROP_SIZE}
    result = EvaluationResult(
        protocol="upernet_frozen" if options.frozen else "upernet",
        numbers=class_numbers(scores, source.class_names),
        settings={**run["settings"], "short_side": recipe.side},
        data={"test": source.name, "test_images": source.size, "classes": source.num_classes},
        seed=options.seed,
        seconds=run["seconds"],
        notes=tuple(
            f"{name} is {used[name]}, {method[name]} in the method." for name in used if used[name] != method[name]
        ),
    )
    name = short_name(run["settings"]["encoder"])
    suite.write_report(folder, {"encoder_sha256": run["encoder_sha256"]}, {name: [result]})
    table = class_table(scores, source.class_names)
    with write_atomically(folder / "classes.md") as file:
        file.write(f"{table}\n".encode())
    pictures = WholeImages(source, recipe.side, PICTURES)
    examples = [
        (image, labels, label_map_of(model.sliding_logits(resized_to_fit(image, recipe.side).numpy()), labels.shape))
        for image, labels in pictures.originals()
    ]
    save_segmentations(folder / "segmentations.png", examples, source.class_names)
    print(f"\n{table}\n\n{suite.markdown_table({name: [result]})}\n\nwritten to {folder}")
    if options.export is not None:
        exported = export_segmenter(model, options.export / short_name(folder), short_side=recipe.side)
        print(f"exported to {exported.path}; scores differ from Keras's by {exported.error:.1e}")
    run["results"] = result.to_dict()
    descriptions.write(folder, run)


def class_table(scores: SegmentationScores, class_names: Sequence[str]) -> str:
    """Return a Markdown table of the IoU and the accuracy of each class, in %.

    Args:
        scores: `SegmentationScores`.
        class_names: Strings. Names of the classes.

    Returns:
        String of several lines. Classes that do not occur have dashes.

    Example:
        >>> from keras_siamim.evaluation.mean_iou import MeanIoU
        >>> metric = MeanIoU(2)
        >>> metric.update([0, 0, 0, 0], [0, 0, 0, 0])
        >>> print(class_table(metric.scores(), ("sky", "road")))
        | class | IoU | accuracy |
        |---|---|---|
        | sky | 100.0 | 100.0 |
        | road | – | – |
        | mean | 100.0 | 100.0 |
    """
    rows = [
        *zip(class_names, scores.iou, scores.accuracy, strict=True),
        ("mean", scores.mean_iou, scores.mean_accuracy),
    ]
    lines = [f"| {name} | {_percent(iou)} | {_percent(accuracy)} |" for name, iou, accuracy in rows]
    return "\n".join(["| class | IoU | accuracy |", "|---|---|---|", *lines])


def _percent(fraction):
    return "–" if fraction != fraction else f"{100 * fraction:.1f}"
