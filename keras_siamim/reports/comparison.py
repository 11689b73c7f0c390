"""Comparison of the runs in a folder: as a table in the terminal and as a page."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from keras_siamim.callbacks.log_line import format_duration
from keras_siamim.files import write_atomically
from keras_siamim.reports.html import Html, element, join, page, section, table
from keras_siamim.reports.plots import COLORS, plot
from keras_siamim.reports.run_page import PAGE
from keras_siamim.reports.summary import RunSummary, read_summary
from keras_siamim.reports.verdict import percent
from keras_siamim.runs.description import FILE
from keras_siamim.visualization.curves import curve_of

HEADER = ("run", "recipe", "state", "epochs", "loss", "k-NN before", "after", "rank", "time")
# Columns of the log that are plotted for all runs, with their titles.
PLOTTED = {"loss": "loss", "knn": "k-NN accuracy", "rank": "effective rank", "retrieval": "right place predicted"}


def find_runs(folder: Path) -> tuple[list[RunSummary], list[str]]:
    """Read the runs of `pretrain` in a folder: the folder itself, or folders up to two levels below.

    Args:
        folder: Path of an existing folder.

    Returns:
        Summaries in the order of their paths, where 2 comes before 10, and one line for each run that is damaged.

    Raises:
        ValueError: If `folder` is not a folder.
    """
    if not folder.is_dir():
        raise ValueError(f"`folder` must be a folder of runs. Received: {str(folder)!r}.")
    found, damaged = [], []
    paths = {path.parent for pattern in (FILE, f"*/{FILE}", f"*/*/{FILE}") for path in folder.glob(pattern)}
    for path in sorted(paths, key=_natural):
        try:
            summary = read_summary(path)
        except (ValueError, KeyError, OSError) as error:
            damaged.append(f"{path} can't be read: {error}")
        else:
            found += [summary] if summary is not None else []
    return found, damaged


def cells(summary: RunSummary, folder: Path) -> tuple[str, ...]:
    """Return the row of one run, of the columns in `HEADER`.

    Args:
        summary: `RunSummary`.
        folder: Path of the folder of runs, to which the name of the run is relative.
    """
    results, (done, epochs) = summary.run["results"], summary.epochs
    loss, rank, seconds = summary.last("loss"), summary.last("rank"), summary.seconds
    return (
        name_of(summary, folder),
        summary.run["name"],
        summary.state,
        f"{done}/{epochs}",
        "–" if loss is None else f"{loss:.4f}",
        percent(results.get("knn_before")),
        percent(results.get("knn_after")),
        "–" if rank is None else f"{rank:.1f}",
        "–" if seconds is None else format_duration(seconds),
    )


def name_of(summary: RunSummary, folder: Path) -> str:
    """Return the path of a run relative to the folder of runs, or the name of the run that is this folder."""
    return os.path.relpath(summary.folder, folder) if summary.folder != folder else summary.folder.resolve().name


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with aligned columns, the first one to the left.

    Example:
        >>> print(text_table(["run", "loss"], [["1", "0.8000"]]))
        run    loss
        1    0.8000
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in (header, *rows)
    ]
    return "\n".join(lines)


def differing_settings(summaries: Sequence[RunSummary]) -> dict[str, list[str]]:
    """Return the settings in which runs differ: the values of each run, by key of the recipe.

    Args:
        summaries: Summaries of runs.
    """
    settings = [{"data": summary.run["data"]["source"], **summary.recipe.keys()} for summary in summaries]
    keys = dict.fromkeys(key for each in settings for key in each)
    values = {key: [str(each.get(key, "–")) for each in settings] for key in keys}
    return {key: each for key, each in values.items() if len(set(each)) > 1}


def comparison_page(summaries: Sequence[RunSummary], folder: Path, path: Path) -> str:
    """Return a page that compares runs: a table with links to their pages, curves, and the settings that differ.

    Args:
        summaries: One summary or more.
        folder: Path of the folder of runs.
        path: Path where the page will be, for the links.
    """
    names = [name_of(summary, folder) for summary in summaries]
    # The recipe is below the name of the run: a column of its own would make the table wider than a small screen.
    rows = [(_title(summary, folder, path), *cells(summary, folder)[2:]) for summary in summaries]
    differing = differing_settings(summaries)
    shown = list(zip(names, summaries, strict=True))[-COLORS:]
    plots = []
    for key, title in PLOTTED.items():
        curves = {name: curve_of(summary.rows, key) for name, summary in shown}
        plots += [plot(title, curves)] if any(epochs for epochs, _ in curves.values()) else []
    note = f"The last {COLORS} of {len(names)} runs." if len(names) > COLORS else None
    settings = table(("", *names), [(key, *values) for key, values in differing.items()]) if differing else None
    return page(
        f"Runs in {folder.resolve().name}",
        element("p", f"{len(names)} runs in {folder.resolve()}", class_="lead"),
        section("Results", table((HEADER[0], *HEADER[2:]), rows)),
        section(
            "Curves",
            element("p", note, class_="lead") if note else Html(""),
            element("div", *plots, class_="plots") if plots else Html(""),
        ),
        section("Settings that differ", settings or Html("")),
    )


def write_comparison_page(summaries: Sequence[RunSummary], folder: Path, path: Path) -> None:
    """Write `comparison_page` to a file, atomically.

    Args:
        summaries: One summary or more.
        folder: Path of the folder of runs.
        path: Path of the page, in an existing folder.

    Raises:
        OSError: If the file cannot be written.
    """
    content = comparison_page(summaries, folder, path)
    with write_atomically(path) as file:
        file.write(content.encode())


def _title(summary, folder, path):
    name, recipe = name_of(summary, folder), summary.run["name"]
    below = [] if recipe in Path(name).parts else [element("div", recipe, class_="below")]
    return join([_link(summary, folder, path), *below])


def _link(summary, folder, path):
    name, own = name_of(summary, folder), summary.folder / PAGE
    if not own.exists():
        return name
    with contextlib.suppress(ValueError):  # on Windows, another drive has no relative path
        return element("a", name, href=Path(os.path.relpath(own.resolve(), path.resolve().parent)).as_posix())
    return name


def _natural(path):
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]
