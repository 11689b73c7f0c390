"""Run folders of the commands that train a task model: recorded settings, resuming, training in parts."""

import argparse
import contextlib
import hashlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_siamim.cli.options import name_option, non_negative_option, path_option
from keras_siamim.cli.run_folder import add_checkpoint_options
from keras_siamim.files import replace_atomically
from keras_siamim.objectives.skipped_steps import SkipNonFiniteSteps
from keras_siamim.presets import load_encoder
from keras_siamim.runs import description as descriptions
from keras_siamim.runs.checkpoint_files import Progress
from keras_siamim.runs.exact_checkpoint import ExactCheckpoint, Preempted
from keras_siamim.runs.lock import FolderLock
from keras_siamim.runs.training import TrainingFailed, train

ENCODER = "encoder.keras"
INTERRUPTED = 130


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
    folder: Path,
    name: str,
    settings: dict[str, Any],
    work: Callable[[dict[str, Any], keras.Model], None],
    is_first: bool = True,
) -> int:
    """Do the work of a run in its folder, which no other process can use meanwhile.

    Args:
        folder: Path of the folder.
        name: String. Name of the task, and of its command.
        settings: Dictionary of JSON types. Options that determine the result.
        work: Function of the description of the run and its encoder, which trains and adds the results.
        is_first: Whether this process writes the files of the run. Defaults to True.

    Returns:
        The exit status: 0 for a finished run, 75 after SIGTERM, 130 after Ctrl-C, 1 if the work fails.
    """
    resume_with = f"resume with: keras-siamim {name} --run {folder}"
    try:
        with FolderLock(folder) if is_first else contextlib.nullcontext():
            run, encoder = open_task(folder, name, settings)
            if run["results"]:
                print(f"{folder} is finished")
                return 0
            work(run, encoder)
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


def weights_digest(model: keras.Model) -> str:
    """Return the SHA-256 sum of a model's weights, in their order."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def train_in_parts(
    model: SkipNonFiniteSteps,
    batches_from: Callable[[Progress], Iterable[Any]],
    checkpoint: ExactCheckpoint,
    parts: int,
    callbacks: Sequence[keras.callbacks.Callback],
    verbose: int,
) -> Iterator[int]:
    """Train a model part by part, and yield the number of finished parts after each; the model is saved then.

    Args:
        model: Model that `runs.training.resume` restored.
        batches_from: Function from a `Progress` to an infinite dataset of the batches that follow.
        checkpoint: `ExactCheckpoint` that was given to `resume`. Its epochs are the parts.
        parts: Integer. Number of parts of the run.
        callbacks: Callbacks of `fit`.
        verbose: Integer. Verbosity of `fit`.
    """
    finished = checkpoint.progress.batches // checkpoint.batches_per_epoch
    for part in range(finished + 1, parts + 1):
        train(model, batches_from, checkpoint, part, callbacks, verbose=verbose)
        yield part
