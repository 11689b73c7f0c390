"""What a run is, in one file: recipe, images, extensions, what it was started with each time, results."""

import hashlib
import importlib.metadata
import json
import platform
import time

import keras
import numpy as np

import keras_siamim
from keras_siamim.data.images.decoding import refusal
from keras_siamim.recipes import recipe_differences, recipe_from_json, recipe_to_json
from keras_siamim.runs.checkpoint_files import write_text
from keras_siamim.runs.plan import last_stage

FILE = "run.json"
PACKAGES = ("keras", "numpy", "tensorflow", "tensorflow-cpu", "jax", "torch")
# Images whose content tells one data set from another; where they lie may change.
SAMPLE = 8


def describe(name, recipe, options, source):
    """Describe a new run.

    Args:
        name: The recipe's name.
        recipe: A `Recipe`.
        options: What opens the images again, a dictionary.
        source: The open images, as `keras_siamim.data.sources` gives them.

    Returns:
        A dictionary that `json.dump` takes: `name`, `recipe`, `data`, and what is still empty: `extensions`, `starts`
        and `results`.
    """
    identity = {"size": source.size, "classes": list(source.class_names), "first_images": _first_images(source)}
    data = {**options, "source": source.name, "identity": identity}
    recipe = recipe_to_json(recipe)
    return {"name": name, "recipe": recipe, "data": data, "extensions": [], "starts": [], "results": {}}


def differences(recorded, asked):
    """What keeps the run `recorded` from going on as `asked`, one line each; both as `describe` gives them."""
    lines = recipe_differences(recorded["recipe"], asked["recipe"])
    before, now = recorded["data"]["identity"], dict(asked["data"]["identity"])
    if all(
        None in pair or len(set(pair)) == 1 for pair in zip(before["first_images"], now["first_images"], strict=False)
    ):
        now.pop("first_images")  # an image that could not be read, then or now, tells nothing
    return lines + [
        f"{key.replace('_', ' ')} of the data: {_short(before[key])} in the run, {_short(now[key])} asked for"
        for key in now
        if before[key] != now[key]
    ]


def is_finished(description):
    """Whether a run has trained all its epochs and reported."""
    return description["results"].get("epochs") == stage_of(description).last_epoch


def extend(description, epochs, schedule):
    """Add epochs to a finished run; to one that is training just these, add nothing.

    Args:
        description: A dictionary as `describe` gives it.
        epochs: How many more.
        schedule: One of `plan.SCHEDULES`.

    Returns:
        The new description.

    Raises:
        ValueError: If the run is not finished, or `plan.last_stage` refuses the extension.
    """
    extension = {"epochs": epochs, "schedule": schedule}
    if is_finished(description):
        description = {**description, "extensions": [*description["extensions"], extension]}
    elif description["extensions"][-1:] != [extension]:
        raise ValueError(
            f"A run must be finished before it is continued. It is to train for {stage_of(description).last_epoch} "
            "epochs; start it without --continue-epochs first."
        )
    stage_of(description)
    return description


def stage_of(description):
    """The `Stage` that a described run is in."""
    return last_stage(recipe_from_json(description["recipe"]), description["extensions"])


def this_start():
    """When and with what a process takes up a run."""
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
    }


def read(folder):
    """The description in a run folder, or `None` if the folder holds no run.

    Raises:
        ValueError: If it is not whole.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} must describe a run. It is not whole: {error}.") from error


def write(folder, description):
    """Write the description to a run folder, replacing the one there as a whole."""
    write_text(folder / FILE, json.dumps(description, indent=1) + "\n")


def _first_images(source):
    # A digest of each of the first images, `None` where it is bad.
    digests = []
    for entry in source.order(0, 0, shuffle=False).take(SAMPLE):
        try:
            image = np.asarray(source.load(entry)["image"])
            if not image.ndim and refusal(image.item()):
                digests.append(None)  # bad, and may be repaired or removed until the run goes on
                continue
            digests.append(hashlib.sha256(image.tobytes() if image.ndim else image.item()).hexdigest()[:16])
        except Exception:  # noqa: BLE001  whatever a damaged file raises
            digests.append(None)
    return digests


def _short(value):
    text = repr(value)
    return text if len(text) < 60 else f"{text[:24]}...{text[-24:]}"
