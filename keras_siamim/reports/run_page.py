"""Page of one run: `report.html` in its folder, one file that shows what the run is, what it learned and how."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from keras_siamim.callbacks.log_line import format_duration
from keras_siamim.callbacks.observer import Observer
from keras_siamim.data.bad_images import BAD_IMAGES, Ledger
from keras_siamim.files import write_atomically
from keras_siamim.reports.html import Html, element, facts, image, join, page, section, table
from keras_siamim.reports.plots import plot
from keras_siamim.reports.summary import RunSummary, commands, read_summary
from keras_siamim.reports.verdict import percent, verdict_table
from keras_siamim.visualization.curves import NAMES, PANELS, curve_of

PAGE = "report.html"
# Figures of a run in the order of the page, with their captions.
PICTURES = {
    "prediction": "Predictions across views",
    "reconstruction": "Reconstruction of masked patches",
    "token_pca": "Patch tokens as colors",
    "correspondence": "Corresponding patches",
    "attention": "Attention of the class token",
}
# Most bad images that a page lists.
LISTED = 50


def run_page(summary: RunSummary) -> str:
    """Return the page of a run.

    Args:
        summary: `RunSummary`, from `read_summary`.

    Raises:
        OSError: If a figure cannot be read.
    """
    run = summary.run
    return page(
        f"{run['name']}, {summary.folder.resolve().name}",
        element("p", _headline(summary), class_="lead"),
        _tiles(summary),
        section("Results", _results(summary)),
        section("Curves", curves(summary)),
        section("The run", _facts(summary)),
        section("Repeat it", element("pre", "\n".join(commands(run))), _recipe(summary)),
        section("What it learned", _pictures(summary)),
        section("Views", _views(summary)),
        section("Bad images", _bad_images(summary)),
    )


def write_run_page(folder: Path) -> None:
    """Write the page of a run to `report.html` in its folder, atomically. A folder without a run gets none.

    Args:
        folder: Path of the run folder.

    Raises:
        ValueError: If a file of the run is damaged.
        OSError: If a file cannot be read or written.
    """
    summary = read_summary(folder)
    if summary is None:
        return
    content = run_page(summary)
    with write_atomically(folder / PAGE) as file:
        file.write(content.encode())


class RunPage(Observer):
    """Callback that rewrites the page of a run every few epochs. Put it after `RunLog` and `Figures`.

    Attributes:
        path: Path of the page.

    Args:
        folder: Path of the run folder.
        every_epochs: Integer, 1 or more.
        report: Function of one line of text. Defaults to `print`.
    """

    def __init__(self, folder: Path, every_epochs: int, report: Callable[[str], object] = print):
        super().__init__(report)
        self.path = folder / PAGE
        self.every_epochs = every_epochs

    def on_epoch_end(self, epoch, logs=None):
        if self.is_due(epoch, self.every_epochs):
            self.write()

    def write(self) -> None:
        """Write the page. An error is reported once, and raised never."""
        self.attempt(f"page {PAGE}", write_run_page, self.path.parent)


def curves(summary: RunSummary) -> Html:
    """Return the plots of a run's log."""
    plots = []
    for title, names, edges in PANELS:
        found = {NAMES.get(name, name): curve_of(summary.rows, name) for name in names}
        found = {name: curve for name, curve in found.items() if curve[0]}
        if not found:
            continue
        band = None
        if edges is not None:
            (at, lows), (_, highs) = (curve_of(summary.rows, name) for name in edges)
            band = ("recorded runs", at, (lows, highs)) if at else None
        plots.append(plot(title, found, band))
    return element("div", *plots, class_="plots") if plots else Html("")


def _headline(summary):
    recipe, data = summary.recipe, summary.run["data"]
    done, epochs = summary.epochs
    progress = {
        "finished": "finished",
        "running": f"epoch {done} of {epochs}",
        "stopped": f"stopped after epoch {done} of {epochs}",
    }
    return f"{recipe.objective} on {data['identity']['size']:,} images of {data['source']}; {progress[summary.state]}."


def _tiles(summary):
    results, (done, epochs) = summary.run["results"], summary.epochs
    loss, rank, retrieval = (summary.last(name) for name in ("loss", "rank", "retrieval"))
    knn = results.get("knn_after")
    if summary.state != "finished" or knn is None:
        knn = summary.last("knn") if knn is None else knn
    tiles = [
        ("epochs", f"{done} of {epochs}"),
        ("loss", loss and f"{loss:.4f}"),
        ("k-NN accuracy", knn and percent(knn)),
        ("linear probe", (probe := summary.last("probe")) and percent(probe)),
        ("effective rank", rank and f"{rank:.1f}"),
        ("right place predicted", retrieval and percent(retrieval)),
        ("training time", (seconds := summary.seconds) and format_duration(seconds)),
    ]
    return element("dl", *(element("div", element("dt", n), element("dd", v)) for n, v in tiles if v), class_="tiles")


def _results(summary):
    results = summary.run["results"]
    measured = results.get("representations", {})
    for name, key in (("trained", "knn_after"), ("initial", "knn_before")):
        if results.get(key) is not None:
            measured = {**measured, name: {"knn": results[key], **measured.get(name, {})}}
    if not measured:
        return Html("")
    note = "k-NN accuracy of frozen features on held-out images."
    sentence = element("p", results.get("verdict", note), class_="lead")
    return join([table(*verdict_table(measured)), sentence])


def _pictures(summary):
    figures = []
    for name, caption in PICTURES.items():
        paths = sorted(path for path in (summary.folder / "figures").glob(f"{name}-*.png") if _epoch_of(path))
        if paths:
            figures.append(image(paths[-1], f"{caption}, epoch {_epoch_of(paths[-1])}"))
    return element("div", *figures, class_="pictures") if figures else Html("")


def _epoch_of(path):
    found = re.fullmatch(r".*-(\d+)", path.stem)
    return int(found[1]) if found else None


def _views(summary):
    path = summary.folder / "views.png"
    if not path.exists():
        return Html("")
    return image(path, "Training pairs: the image with both crops, the masked online view, and the target view.")


def _encoder(recipe):
    values = recipe.keys()
    if recipe.backbone == "ViT":
        width, depth = values["encoder.width"], values["encoder.depth"]
        return f"ViT, width {width}, depth {depth}, patches of {recipe.patch_size} pixels"
    sizes = (", ".join(str(size) for size in values[f"encoder.{name}"]) for name in ("widths", "depths"))
    return "ConvNeXt, widths {}, depths {}, cells of {} pixels".format(*sizes, recipe.patch_size)


def _facts(summary):
    run, recipe = summary.run, summary.recipe
    data, starts = run["data"], run["starts"]
    classes = data["identity"]["classes"]
    last = starts[-1] if starts else {}
    return facts(
        [
            ("Recipe", run["name"]),
            *([("Started from", run["initial_weights"]["source"])] if "initial_weights" in run else []),
            ("Objective", recipe.objective),
            ("Encoder", _encoder(recipe)),
            ("Image size", f"{recipe.image_size} pixels"),
            (
                "Images",
                f"{data['source']}: {data['identity']['size']:,}" + (f", {len(classes)} classes" if classes else ""),
            ),
            ("Batch size", f"{recipe.batch_size}; {recipe.describe_learning_rate()}"),
            ("Epochs", ", then ".join(map(str, [recipe.epochs, *(more["epochs"] for more in run["extensions"])]))),
            ("Seed", recipe.seed),
            ("Begun", starts[0]["time"] if starts else None),
            ("Starts", len(starts) if len(starts) > 1 else None),
            ("Training time", (seconds := summary.seconds) and format_duration(seconds)),
            ("Machine", last.get("machine")),
            ("Backend", last.get("backend")),
            ("Commit", last.get("commit")),
            ("Versions", ", ".join(f"{name} {version}" for name, version in last.get("versions", {}).items())),
            ("Python", last.get("python")),
            ("Folder", str(summary.folder.resolve())),
        ]
    )


def _bad_images(summary):
    path = summary.folder / BAD_IMAGES
    entries = Ledger(path).entries() if path.exists() else []
    if not entries:
        return element("p", "None was found.")
    more = len(entries) - LISTED
    rows = [(entry["image"], entry["reason"]) for entry in entries[:LISTED]]
    note = f"{len(entries):,} images could not be read. Others replaced them."
    return join(
        [
            element("p", note + (f" The first {LISTED}:" if more > 0 else "")),
            element("div", table(("image", "reason"), rows), class_="text"),
        ]
    )


def _recipe(summary):
    content = json.dumps(summary.run["recipe"], indent=1)
    return element("details", element("summary", "all values of the recipe"), element("pre", content))
