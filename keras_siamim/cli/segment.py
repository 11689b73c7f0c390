"""Train UPerNet on images with label maps, starting from a pre-trained encoder, or resume such a run.

    keras-siamim segment --encoder RUN_OR_FILE --data tfds:scene_parse150
    keras-siamim segment --encoder RUN_OR_FILE --data path/to/images_and_masks --crop-size 256 --steps 4000 [--frozen]
    keras-siamim segment --run runs/segment/1

The data are a data set of TFDS with label maps, or a folder with images/ and masks/ (PNG, matched by name). The
defaults are those of ADE20k: crops of 512 pixels, 160,000 steps of 16 images, and learning rate 1e-4 per 16 images.
Training stops `--validations` times to compute the mean IoU on validation images. At the end, the command scores the
complete test split with sliding windows.

The run folder is that of `--run`, or a new numbered one in `segment/` below `--runs`. It contains `run.json`,
`encoder.keras`, `log.csv`, `validation.csv`, `checkpoints/`, and at the end `segmenter.keras`, `evaluation.json`,
`evaluation.md`, `classes.md` with the IoU of each class, and `segmentations.png`. With `--export`, the segmenter is
also exported as a SavedModel. The exit status is 75 after SIGTERM and 130 after Ctrl-C; the same command resumes the
run.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_siamim.backbones import ViTEncoder
from keras_siamim.callbacks import LogSchedules
from keras_siamim.cli.label_map_options import add_label_map_options, open_label_map_splits
from keras_siamim.cli.options import path_option
from keras_siamim.cli.run_folder import BAD_IMAGES, absolute, make_run_folder
from keras_siamim.cli.task_run import add_task_options, open_task, parse_task, train_in_parts
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.label_map_batches import CropRecipe, WholeImages, label_map_training_batches, resized_to_fit
from keras_siamim.data.pipeline import steps_per_epoch
from keras_siamim.data.sources.label_maps import LabelMapSource
from keras_siamim.distribution import Distribution, set_up
from keras_siamim.evaluation import suite
from keras_siamim.evaluation.mean_iou import SegmentationScores
from keras_siamim.evaluation.result import EvaluationResult, stopwatch
from keras_siamim.evaluation.segmentation_protocol import class_numbers
from keras_siamim.export import export_segmenter
from keras_siamim.files import replace_atomically, write_atomically
from keras_siamim.optimizers import LayerDecayAdamW, LossScaleOptimizer
from keras_siamim.runs import description as descriptions
from keras_siamim.runs.checkpoint_files import CheckpointFiles
from keras_siamim.runs.exact_checkpoint import ExactCheckpoint, Preempted
from keras_siamim.runs.lock import FolderLock
from keras_siamim.runs.log import RunLog, read_rows, write_rows
from keras_siamim.runs.training import TrainingFailed, resume
from keras_siamim.schedules import WarmupLinearDecay
from keras_siamim.segmentation import UPerNet, score_images
from keras_siamim.segmentation.scoring import label_map_of
from keras_siamim.visualization.segmentations import save_segmentations

NAME = "segment"
# The method's settings (METHOD_DENSE section 2.6), from which the results name every deviation.
STEPS, WARMUP_STEPS, BATCH_SIZE, CROP_SIZE, LEARNING_RATE = 160_000, 1500, 16, 512, 1e-4
# Options that determine the result. A run records them and can be resumed with the same ones only.
SETTINGS = (
    *("encoder", "data", "train_split", "val_split", "test_split", "classes", "first_label", "ignore_labels"),
    *("frozen", "crop_size", "short_side", "steps", "validations", "batch_size", "learning_rate", "layer_decay"),
    *("head_width", "dtype", "seed"),
)
INTERRUPTED = 130
PICTURES = 4


def build_parser() -> argparse.ArgumentParser:
    """Create the argument parser of the command.

    Example:
        >>> build_parser().parse_args(["--encoder", "runs/mine", "--data", "tfds:scene_parse150"]).steps
        160000
    """
    parser = argparse.ArgumentParser(
        prog="keras-siamim segment", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_task_options(parser)
    add_label_map_options(parser)
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--val-split", default="val", help="split for the mean IoU during training; '' for none")
    parser.add_argument("--test-split", default="test")
    parser.add_argument("--frozen", action="store_true", help="train the heads only")
    parser.add_argument("--crop-size", type=int, default=CROP_SIZE, help="side of crops and windows in pixels")
    parser.add_argument("--short-side", type=int, help="shorter side of images; default: the crop size")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps; default: %(default)s")
    parser.add_argument("--validations", type=int, default=10, help="validations, at equal distances; default: 10")
    parser.add_argument("--validation-images", type=int, default=100, help="validation images; default: 100")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument(
        "--learning-rate", type=float, default=LEARNING_RATE, help="per 16 images; default: %(default)s"
    )
    parser.add_argument("--layer-decay", type=float, help="default: 0.65, or 0.75 for encoders of up to 6 blocks")
    parser.add_argument("--head-width", type=int, help="channels of the heads; default: the encoder's width")
    parser.add_argument("--dtype", choices=("float32", "mixed_bfloat16", "mixed_float16"), default="float32")
    parser.add_argument("--export", type=path_option, help="parent of the exported SavedModel; default: no export")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and score the segmenter that the command line selects.

    Args:
        arguments: List of strings. Defaults to the command line of the process.

    Returns:
        The exit status: 0 for a finished run, 75 after SIGTERM, 130 after Ctrl-C, 1 if training fails.

    Raises:
        SystemExit: With status 2, if options are invalid.
    """
    parser = build_parser()
    try:
        options = parse_task(parser, arguments)
        check_options(options)
        distribution = set_up(options.devices)
        splits = [options.train_split, options.test_split, *filter(None, [options.val_split])]
        options.data = absolute(options.data)
        sources = open_label_map_splits(options, splits)
        folder = make_run_folder(options, {"name": NAME}, distribution.workers)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    resume_with = f"resume with: keras-siamim segment --run {folder}"
    try:
        with FolderLock(folder):
            run, encoder = open_task(folder, NAME, {name: getattr(options, name) for name in SETTINGS})
            if run["results"]:
                print(f"{folder} is finished")
                return 0
            segment(run, encoder, sources, folder, options, distribution)
    except Preempted as preempted:
        print(f"{preempted}; {resume_with}", flush=True)
        return INTERRUPTED if preempted.signal == signal.SIGINT else os.EX_TEMPFAIL
    except KeyboardInterrupt:
        print(f"interrupted; {resume_with}", flush=True)
        return INTERRUPTED
    except (ValueError, OSError, RuntimeError, TrainingFailed) as error:
        print(f"{folder}: {error}", file=sys.stderr)
        return 1
    return 0


def check_options(options: argparse.Namespace) -> None:
    """Raise a ValueError if an option is out of its range.

    Args:
        options: Parsed options of the command.
    """
    for name in ("crop_size", "short_side", "steps", "validations", "validation_images", "batch_size", "head_width"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"`--{name.replace('_', '-')}` must be 1 or more. Received: {value}.")
    if options.learning_rate <= 0:
        raise ValueError(f"`--learning-rate` must be positive. Received: {options.learning_rate}.")
    if options.steps % options.validations:
        raise ValueError(
            f"`--steps` must be a multiple of `--validations`. Received: {options.steps} and {options.validations}."
        )


def build_segmenter(encoder: ViTEncoder, num_classes: int, options: argparse.Namespace) -> UPerNet:
    """Build and compile a segmenter.

    Args:
        encoder: Pre-trained `ViTEncoder`.
        num_classes: Integer. Number of classes.
        options: Parsed options of the command.

    Returns:
        A compiled `UPerNet`. With `frozen`, the weights from the encoder are not trained.

    Raises:
        ValueError: If the encoder is not a `ViTEncoder`, or the crop size is no multiple of its patch size.
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
    decay = options.layer_decay or (0.65 if encoder.depth > 6 else 0.75)
    optimizer = LayerDecayAdamW(schedule, depth=encoder.depth, layer_decay=decay, decay_tokens=True)
    model.compile(LossScaleOptimizer(optimizer) if options.dtype == "mixed_float16" else optimizer)
    return model


def segment(
    run: dict[str, Any],
    encoder: ViTEncoder,
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
    part = options.steps // options.validations
    checkpoint = ExactCheckpoint(
        CheckpointFiles(folder / "checkpoints", options.keep), part, every_minutes=options.save_minutes
    )
    with distribution.scope():
        model = build_segmenter(encoder, train_source.num_classes, options)
        progress = resume(model, 0, checkpoint)
    print(f"UPerNet on {keras.config.backend()}: {train_source.size} images of {train_source.name}")
    print(f"{train_source.num_classes} classes: {', '.join(train_source.class_names)}")
    print(f"{distribution.name}; {options.steps} steps, {options.steps / per_epoch:.1f} epochs; {folder}", flush=True)
    if progress.batches:
        print(f"{folder} resumes after {progress.batches} batches", flush=True)
    run["starts"].append(descriptions.this_start())
    descriptions.write(folder, run)

    def batches_from(progress):
        epoch, step = divmod(progress.batches, per_epoch)
        seed = options.seed + 1_000_003 * progress.order
        batches = label_map_training_batches(
            train_source,
            recipe,
            batch_size,
            seed,
            epoch,
            step,
            workers=distribution.workers,
            worker=distribution.worker,
            ledger=ledger,
        )
        return distribution.feed(batches)

    callbacks = [LogSchedules(), RunLog(folder)]
    with distribution.scope(), ledger.short_errors(), stopwatch() as seconds:
        verbose = 1 if sys.stdout.isatty() else 2
        for done in train_in_parts(model, batches_from, checkpoint, options.validations, callbacks, verbose):
            if val_sources and done < options.validations:
                validate(model, val_sources[0], recipe, options, folder, done * part)
        run["seconds"] = run.get("seconds", 0.0) + seconds()
    finish(model, run, test_source, recipe, folder, options)


def validate(
    model: UPerNet, source: LabelMapSource, recipe: CropRecipe, options: argparse.Namespace, folder: Path, step: int
) -> None:
    """Compute the mean IoU on validation images, print it, and add it to `validation.csv`.

    Args:
        model: `UPerNet`.
        source: `LabelMapSource` of the validation split.
        recipe: `CropRecipe` of the run.
        options: Parsed options of the command.
        folder: Path of the run folder.
        step: Integer. Training steps so far.
    """
    scores = scores_of(model, source, recipe, options.validation_images)
    images = min(source.size, options.validation_images)
    print(
        f"step {step}: mIoU {scores.mean_iou:.1%}, pixels {scores.pixel_accuracy:.1%}, on {images} images", flush=True
    )
    path = folder / "validation.csv"
    rows = [row for row in (read_rows(path) if path.exists() else []) if int(row["step"]) < step]
    write_rows(path, [*rows, {"step": step, **scores.numbers()}])


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
    name = Path(run["settings"]["encoder"]).stem
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
        exported = export_segmenter(model, options.export / folder.name, short_side=recipe.side)
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


if __name__ == "__main__":
    sys.exit(main())
