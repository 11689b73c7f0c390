"""Curves of a run: loss, accuracies of the probes, effective rank."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_siamim.visualization.layout import BACKGROUND, INK, TEXT, sheet

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 460, 260, 56, 34, 26, 12
COLORS = [(0, 110, 220), (230, 110, 0), (40, 150, 60), (160, 60, 180)]
BAND, GRID = (225, 225, 225), (235, 235, 235)
# Panels of a figure: title, names of their curves in the log, and names of the edges of a gray band.
PANELS = (
    ("loss", ("loss", "val_loss"), ("reference_low", "reference_high")),
    ("accuracy on held-out images", ("knn", "probe"), None),
    ("predictions across views", ("retrieval", "image_retrieval"), None),
    ("effective rank of the features", ("rank",), None),
    ("other crop of the same image is nearer", ("same_image",), None),
)
# Names of curves in figures, where they differ from those in the log.
NAMES = {
    "knn": "k-NN",
    "probe": "linear probe",
    "retrieval": "right place",
    "image_retrieval": "right image",
    "same_image": "share of pairs",
}


def ticks(low: float, high: float, count: int = 5, integers: bool = False) -> list[float]:
    """Return about `count` round numbers in [low, high], integers on request.

    Example:
        >>> ticks(0.0, 1.0)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    raw = max(high - low, 1e-12) / count
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw * 0.999)
    step = max(step, 1.0) if integers else step
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def epoch_axis(epochs: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis of epochs; a single epoch stands in the middle of its axis.

    Example:
        >>> epoch_axis([3, 1, 2]), epoch_axis([6])
        ((1.0, 3.0), (5.5, 6.5))
    """
    low, high = float(min(epochs)), float(max(epochs))
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def draw_plot(
    title: str,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    band: tuple[Sequence[float], Sequence[float], Sequence[float]] | None = None,
    epochs: tuple[float, float] | None = None,
) -> Image.Image:
    """Draw one plot of curves over epochs.

    Args:
        title: String.
        curves: Dictionary from names to (epochs, values), each with one finite value or more.
        band: Epochs, low values and high values of a gray band. Defaults to None.
        epochs: First and last epoch of the horizontal axis. Defaults to those of the curves.

    Returns:
        A PIL image.

    Example:
        >>> draw_plot("loss", {"loss": ([1, 2], [0.9, 0.7])}).size
        (460, 260)
    """
    font = ImageFont.load_default(size=TEXT)
    xs = epochs or [x for curve in curves.values() for x in curve[0]]
    ys = np.concatenate([np.asarray(y, "float64") for _, y in curves.values()])
    x_low, x_high = epoch_axis(xs)
    y_low, y_high = float(ys.min()), float(ys.max())
    margin = 0.05 * (y_high - y_low) or 0.1 * max(abs(y_high), 1e-3)
    y_low, y_high = y_low - margin, y_high + margin
    image = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    draw = ImageDraw.Draw(image)

    def place(x, y):
        return (
            LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT),
            TOP + (y_high - min(max(y, y_low), y_high)) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM),
        )

    if band is not None:
        at, lows, highs = band
        edges = [place(x, y) for x, y in zip(at, lows, strict=True)]
        edges += [place(x, y) for x, y in zip(at, highs, strict=True)][::-1]
        if len(edges) > 2:
            draw.polygon(edges, fill=BAND)
    for value in ticks(y_low, y_high):
        y = place(x_low, value)[1]
        draw.line([LEFT, y, WIDTH - RIGHT, y], fill=GRID)
        text = f"{value:g}"
        draw.text((LEFT - 6 - font.getlength(text), y - TEXT / 2 - 1), text, INK, font)
    for value in ticks(x_low, x_high, integers=True):
        text = f"{value:g}"
        draw.text((place(value, y_low)[0] - font.getlength(text) / 2, HEIGHT - BOTTOM + 4), text, INK, font)
    draw.rectangle([LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM], outline=(190, 190, 190))
    draw.text((WIDTH - RIGHT - font.getlength("epoch"), HEIGHT - TEXT - 3), "epoch", INK, font)
    draw.text((LEFT, 4), title, INK, font)
    right = float(WIDTH - RIGHT)
    for (name, (x, y)), color in reversed(list(zip(curves.items(), COLORS, strict=False))):
        points = [place(*point) for point in zip(x, y, strict=True)]
        if len(points) > 1:
            draw.line(points, fill=color, width=2)
        for px, py in points if len(points) < 30 else points[-1:]:
            draw.ellipse([px - 2, py - 2, px + 2, py + 2], fill=color)
        if len(curves) > 1:
            text = NAMES.get(name, name)
            right -= font.getlength(text) + 10
            draw.text((right, 4), text, color, font)
    return image


def draw_curves(rows: Sequence[Mapping[str, float]]) -> Image.Image | None:
    """Draw the curves of a run's log.

    Args:
        rows: Dictionaries from names to numbers, one per epoch, with `epoch` from 0; names may be missing.

    Returns:
        A PIL image, or None if no curve has a finite value.

    Example:
        >>> draw_curves([{"epoch": 0, "loss": 0.9}, {"epoch": 1, "loss": 0.8}]).mode
        'RGB'
        >>> draw_curves([])
    """
    panels = []
    for title, names, edges in PANELS:
        found = {name: curve_of(rows, name) for name in names}
        curves = {name: curve for name, curve in found.items() if curve[0]}
        if curves:
            band = None
            if edges is not None:
                (at, lows), (_, highs) = (curve_of(rows, name) for name in edges)
                band = (at, lows, highs) if at else None
            title += " (gray: recorded runs)" if band else ""
            panels.append(draw_plot(title, curves, band, (1, rows[-1]["epoch"] + 1)))
    return sheet([panels[start : start + 2] for start in range(0, len(panels), 2)]) if panels else None


def curve_of(rows: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    """Return the epochs, from 1, and the finite values of one column of a log.

    Example:
        >>> curve_of([{"epoch": 0}, {"epoch": 1, "knn": 0.5}], "knn")
        ([2], [0.5])
    """
    points = [(row["epoch"] + 1, row[name]) for row in rows if math.isfinite(row.get(name, math.nan))]
    return [x for x, _ in points], [y for _, y in points]
