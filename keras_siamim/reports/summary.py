"""Summary of one run folder: its description, its log and its state."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from pathlib import Path
from typing import Any

from keras_siamim import files
from keras_siamim.recipes import Recipe, load_recipe, recipe_from_json, recipe_names
from keras_siamim.runs import description as descriptions
from keras_siamim.runs.log import read_rows


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """Content of a run folder.

    Attributes:
        folder: Path of the run folder.
        run: Description of the run, see `keras_siamim.runs.description`.
        rows: List of dictionaries from names to numbers, one per epoch of the log.
        state: String: `"finished"`, `"running"` or `"stopped"`.
    """

    folder: Path
    run: dict[str, Any]
    rows: list[dict[str, float]]
    state: str

    @property
    def recipe(self) -> Recipe:
        """Recipe of the run, without later extensions."""
        return recipe_from_json(self.run["recipe"])

    @property
    def epochs(self) -> tuple[int, int]:
        """Numbers of epochs that are trained, and of those of the complete run."""
        done = int(self.rows[-1]["epoch"]) + 1 if self.rows else 0
        return done, descriptions.stage_of(self.run).last_epoch

    @property
    def seconds(self) -> float | None:
        """Training time of all starts that recorded it, or None."""
        recorded = [start["seconds"] for start in self.run["starts"] if "seconds" in start]
        return sum(recorded) if recorded else None

    def last(self, name: str) -> float | None:
        """Return the newest value of a column of the log, or None if there is none."""
        return next((row[name] for row in reversed(self.rows) if name in row), None)


def read_summary(folder: Path) -> RunSummary | None:
    """Read the summary of a run of `pretrain`.

    Args:
        folder: Path of the run folder.

    Returns:
        A `RunSummary`, or None if the folder is not such a run.

    Raises:
        ValueError: If a file is damaged.
        OSError: If a file cannot be read.
    """
    run = descriptions.read(folder)
    if run is None or "recipe" not in run:
        return None
    path = folder / "log.csv"
    rows = read_rows(path) if path.exists() else []
    numbers = [{name: float(value) for name, value in row.items() if value} for row in rows]
    unfinished = "running" if _is_locked(folder / "lock") else "stopped"
    return RunSummary(folder, run, numbers, "finished" if descriptions.is_finished(run) else unfinished)


def commands(run: dict[str, Any], folder: str = "RUN") -> list[str]:
    """Return the commands that repeat a run, its extensions included.

    Args:
        run: Description of the run.
        folder: String. Folder of the new run, which the commands for extensions name. Defaults to `"RUN"`.

    Example:
        >>> from keras_siamim.data.sources import array_source
        >>> images = array_source(np.zeros((2, 8, 8, 3), "uint8"))
        >>> run = descriptions.describe("digits_tiny", load_recipe("digits_tiny", epochs=3), {"images": 2}, images)
        >>> commands(run)
        ['keras-siamim pretrain --recipe digits_tiny --images 2 --set epochs=3']
    """
    recipe, words = recipe_from_json(run["recipe"]), ["keras-siamim", "pretrain"]
    known: dict[str, Any] = {}
    if run["name"] in recipe_names():
        words += ["--recipe", run["name"]]
        known = load_recipe(run["name"]).keys()
    for name, default in descriptions.DATA_OPTIONS.items():
        if run["data"].get(name, default) != default:
            words += [f"--{name.replace('_', '-')}", str(run["data"][name])]
    if "initial_weights" in run:
        words += ["--init-from", run["initial_weights"]["source"]]
    start = run["starts"][-1] if run["starts"] else {}
    for name, value in start.get("options", {}).items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    # A value that the recipe of today has too need not be set.
    values = {key: value for key, value in recipe.keys().items() if key not in known or known[key] != value}  # noqa: SIM118
    if values:
        words += ["--set", *(f"{key}={value}" for key, value in values.items())]
    if run["extensions"]:
        words += ["--run", folder]
    again = f"keras-siamim pretrain --run {folder}"
    further = [
        f"{again} --continue-epochs {more['epochs']} --schedule {more['schedule']}" for more in run["extensions"]
    ]
    backend = f"KERAS_BACKEND={start['backend']} " if start else ""
    return [backend + command for command in (shlex.join(words), *further)]


def _is_locked(path):
    with contextlib.suppress(OSError), open(path) as file:
        try:
            files.lock(file, wait=False)
        except BlockingIOError:
            return True
    return False
