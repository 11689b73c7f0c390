"""Run folders of the commands that train a task model: recorded settings, resuming, training in parts."""

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_siamim.callbacks import LogSchedules
from keras_siamim.cli.exit_status import exit_status
from keras_siamim.cli.options import name_option, non_negative_option, path_option
from keras_siamim.cli.run_folder import add_checkpoint_options
from keras_siamim.data.bad_images import Ledger
from keras_siamim.distribution import Distribution
from keras_siamim.evaluation.result import stopwatch
from keras_siamim.files import replace_atomically
from keras_siamim.objectives.skipped_steps import SkipNonFiniteSteps
from keras_siamim.presets import load_encoder
from keras_siamim.runs import description as descriptions
from keras_siamim.runs.checkpoint_files import CheckpointFiles, Progress
from keras_siamim.runs.exact_checkpoint import ExactCheckpoint
from keras_siamim.runs.lock import FolderLock
from keras_siamim.runs.log import RunLog, read_rows, write_rows
from keras_siamim.runs.training import resume, train

if TYPE_CHECKING:
    import tensorflow as tf

ENCODER = "encoder.keras"


def add_task_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that select the encoder, the run folder and its checkpoints to a parser.

    Args:
        parser: An `argparse.ArgumentParser`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_task_options(parser)
        >>> parser.parse_args([]).keep
        3
    """
    parser.add_argument("--encoder", type=name_option, help=".keras file or run folder of a pre-trained encoder")
    parser.add_argument("--data", type=name_option, help="images: a data set of TFDS or a folder")
    parser.add_argument("--run", type=path_option, help="run folder; an existing run is resumed")
    parser.add_argument("--runs", type=path_option, default=Path("runs"), help="parent of new run folders")
    add_checkpoint_options(parser)
    parser.add_argument("--seed", type=non_negative_option, default=0)


def parse_task(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line; an existing run in `--run` gives the values of options that are left out.

    Args:
        parser: Parser with the options of `add_task_options`.
        arguments: List of strings. None for the command line of the process.

    Returns:
        The parsed options.

    Raises:
        ValueError: If `--encoder` or `--data` is left out for a new run.
    """
    options = parser.parse_args(arguments)
    recorded = descriptions.read(options.run) if options.run else None
    if recorded is not None:
        parser.set_defaults(**recorded["settings"])
        options = parser.parse_args(arguments)
    for name in ("encoder", "data"):
        if getattr(options, name) is None:
            raise ValueError(f"`--{name}` must be given for a new run. Received: None.")
    return options


def open_task(folder: Path, name: str, settings: dict[str, Any]) -> tuple[dict[str, Any], keras.Model]:
    """Create the description of a run, or read that of an existing run, and load its encoder.

    A new run keeps a copy of its encoder, so that it can be resumed without the original.

    Args:
        folder: Path of the run folder.
        name: String. Name of the task.
        settings: Dictionary of JSON types. Options that determine the result.

    Returns:
        The description, and the encoder.

    Raises:
        ValueError: If an existing run has another task or other settings, or the encoder can't be loaded.
    """
    recorded = descriptions.read(folder)
    if recorded is None:
        encoder = load_encoder(settings["encoder"])
        if not isinstance(encoder, keras.Model):
            raise ValueError(f"`--encoder` must be a Keras model. Received: {settings['encoder']}, a SavedModel.")
        with replace_atomically(folder / ENCODER) as staging:
            encoder.save(staging)
        digest = weights_digest(encoder)
        run = {"name": name, "settings": settings, "encoder_sha256": digest, "starts": [], "results": {}}
        descriptions.write(folder, run)  # written last: it turns the folder into a run
        return run, encoder
    if recorded.get("name") != name or "settings" not in recorded:
        raise ValueError(f"`--run` must be a new folder or a run of this command. Received: {folder}.")
    differing = [
        f"{key.replace('_', '-')} is {recorded['settings'].get(key)!r} in the run, {value!r} is requested"
        for key, value in settings.items()
        if recorded["settings"].get(key) != value
    ]
    if differing:
        raise ValueError(
            f"`--run` must be a new folder or a run with the same settings. Received: {folder}; {'; '.join(differing)}."
        )
    return recorded, keras.saving.load_model(folder / ENCODER, compile=False)


def run_task(
    folder: Path, name: str, settings: dict[str, Any], work: Callable[[dict[str, Any], keras.Model], None]
) -> int:
    """Do the work of a run in its folder, which no other process can use meanwhile.

    Args:
        folder: Path of the folder.
        name: String. Name of the task, and of its command.
        settings: Dictionary of JSON types. Options that determine the result.
        work: Function of the description of the run and its encoder, which trains and adds the results.

    Returns:
        The exit status, see `exit_status`.
    """

    def work_in_folder():
        with FolderLock(folder):
            run, encoder = open_task(folder, name, settings)
            if run["results"]:
                print(f"{folder} is finished")
            else:
                work(run, encoder)

    return exit_status(name, folder, work_in_folder)


def weights_digest(model: keras.Model) -> str:
    """Return the SHA-256 sum of a model's weights, in their order."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def check_validations(options: argparse.Namespace) -> None:
    """Raise a ValueError if `--validations` does not divide `--steps`.

    Args:
        options: Parsed options of the command.
    """
    if options.steps % options.validations:
        raise ValueError(
            f"`--steps` must be a multiple of `--validations`. Received: {options.steps} and {options.validations}."
        )


def train_task(
    run: dict[str, Any],
    folder: Path,
    options: argparse.Namespace,
    distribution: Distribution,
    ledger: Ledger,
    build: Callable[[], SkipNonFiniteSteps],
    batches_of: Callable[[Progress], "tf.data.Dataset"],
    per_epoch: int,
    about: Sequence[str],
    validate: Callable[[SkipNonFiniteSteps, int], dict[str, float]] | None,
) -> SkipNonFiniteSteps:
    """Train a run from its newest checkpoint to its last step.

    Args:
        run: Description of the run. The function adds this start, and the seconds of training.
        folder: Path of the run folder.
        options: Parsed options of the command.
        distribution: `Distribution` of the processes and devices.
        ledger: `Ledger` of the training images.
        build: Function that returns the compiled model.
        batches_of: Function from a `Progress` to an infinite dataset of the batches of this worker that follow.
        per_epoch: Integer. Batches per epoch.
        about: Strings. Lines about the task, which are printed first.
        validate: Function of the model and the steps so far, which returns the row of `validation.csv`; None for no
            validation. The last step has none: the test split follows.

    Returns:
        The trained model.

    Raises:
        ValueError: If the run cannot be resumed.
        Preempted: On SIGTERM or Ctrl-C, after saving.
        TrainingFailed: If steps are non-finite even after rolling back.
        OSError: If files cannot be written.
    """
    part = options.steps // options.validations
    checkpoint = ExactCheckpoint(
        CheckpointFiles(folder / "checkpoints", options.keep), part, every_minutes=options.save_minutes
    )
    with distribution.scope():
        model = build()
        progress = resume(model, 0, checkpoint)
    print(*about, sep="\n")
    print(f"{distribution.name}; {options.steps} steps, {options.steps / per_epoch:.1f} epochs; {folder}", flush=True)
    if progress.batches:
        print(f"{folder} resumes after {progress.batches} batches", flush=True)
    run["starts"].append(descriptions.this_start())
    descriptions.write(folder, run)

    def batches_from(progress):
        return distribution.feed(batches_of(progress))

    callbacks = [LogSchedules(), RunLog(folder)]
    verbose = 1 if sys.stdout.isatty() else 2
    with distribution.scope(), ledger.short_errors(), stopwatch() as seconds:
        for number in range(progress.batches // part + 1, options.validations + 1):
            train(model, batches_from, checkpoint, number, callbacks, verbose=verbose)
            if validate is not None and number < options.validations:
                add_validation(folder, number * part, validate(model, number * part))
        run["seconds"] = run.get("seconds", 0.0) + seconds()
    return model


def add_validation(folder: Path, step: int, numbers: dict[str, float]) -> None:
    """Add a row to `validation.csv`, in place of rows of this and later steps.

    Args:
        folder: Path of the run folder.
        step: Integer. Training steps so far.
        numbers: Dictionary from column names to values.
    """
    path = folder / "validation.csv"
    rows = [row for row in (read_rows(path) if path.exists() else []) if int(row["step"]) < step]
    write_rows(path, [*rows, {"step": step, **numbers}])
