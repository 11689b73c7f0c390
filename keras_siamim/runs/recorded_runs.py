"""Recording of finished runs of one recipe, as the reference of later runs."""

import json
from collections.abc import Sequence
from pathlib import Path

from keras_siamim.callbacks.reference_curve import band_of_losses
from keras_siamim.files import write_atomically
from keras_siamim.recipes import recipe_from_json
from keras_siamim.recipes._bands import comparable_data, comparable_recipe
from keras_siamim.runs import description as descriptions
from keras_siamim.runs.log import read_rows


def record_runs(folders: Sequence[Path], path: Path) -> None:
    """Write the losses of finished runs to a file that `keras_siamim.recipes.reference_band` reads.

    The runs may differ in their seeds only.

    Args:
        folders: Two or more paths of run folders.
        path: Path of the file, `keras_siamim/recipes/NAME.runs.json` for the runs of a recipe of this package.

    Raises:
        ValueError: If a folder holds no finished run, a run was extended, or settings or images differ.
        OSError: If a file cannot be read or written.
    """
    runs, first = [], None
    for folder in folders:
        run = descriptions.read(folder)
        if run is None or not descriptions.is_finished(run) or run["extensions"]:
            raise ValueError(f"`folders` must be finished runs without extensions. Received: {folder}.")
        recipe = recipe_from_json(run["recipe"])
        settings = {"recipe": comparable_recipe(recipe), "data": comparable_data(run["data"]["identity"])}
        first = first or {"name": run["name"], **settings, "source": run["data"]["source"]}
        if any(first[key] != value for key, value in settings.items()):
            raise ValueError(f"`folders` must be runs that differ in their seeds only. Received: {folder}.")
        start = run["starts"][-1]
        losses = [round(float(row["loss"]), 6) for row in read_rows(folder / "log.csv")]
        software = {"backend": start["backend"], "versions": start["versions"]}
        runs.append({"seed": recipe.seed, "loss": losses, "knn_after": run["results"].get("knn_after"), **software})
    band_of_losses([run["loss"] for run in runs])
    with write_atomically(path) as file:
        file.write(f"{json.dumps({**(first or {}), 'runs': runs})}\n".encode())
