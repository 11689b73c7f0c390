"""Curves as SVG elements, whose colors follow the theme of a page and whose text stays readable on a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keras_siamim.reports.html import Html, element
from keras_siamim.visualization.curves import epoch_axis, ticks

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 400, 210, 46, 10, 8, 34
# Colors of `style.css`.
COLORS = 6

Curve = tuple[Sequence[float], Sequence[float]]


def plot(title: str, curves: Mapping[str, Curve], band: tuple[str, Sequence[float], Curve] | None = None) -> Html:
    """Return a plot of curves over epochs, with a legend.

    Args:
        title: String.
        curves: Dictionary from names to (epochs, values). An empty curve is not drawn and keeps its color, so that
            colors agree between plots; one curve or more is not empty.
        band: Name, epochs, and low and high values of a gray band. Defaults to None.

    Example:
        >>> plot("loss", {"loss": ([1, 2], [0.9, 0.7])}).count("<polyline")
        1
    """
    xs = [x for curve in curves.values() for x in curve[0]]
    ys = [y for curve in curves.values() for y in curve[1]]
    x_low, x_high = epoch_axis(xs)
    margin = 0.05 * (max(ys) - min(ys)) or 0.1 * max(abs(max(ys)), 1e-3)
    y_low, y_high = min(ys) - margin, max(ys) + margin

    def place(x, y):
        across = (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        down = (y_high - min(max(y, y_low), y_high)) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return f"{LEFT + across:.1f}", f"{TOP + down:.1f}"

    parts = []
    if band is not None:
        _, at, (lows, highs) = band
        inside = [point for point in zip(at, lows, highs, strict=True) if x_low <= point[0] <= x_high]
        edges = [place(x, low) for x, low, _ in inside] + [place(x, high) for x, _, high in inside][::-1]
        parts.append(element("polygon", points=_points(edges), class_="band"))
    for value in ticks(y_low, y_high):
        y = place(x_low, value)[1]
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(element("text", f"{value:g}", x=LEFT - 6, y=float(y) + 4, text_anchor="end"))
    for value in ticks(x_low, x_high, integers=True):
        x = place(value, y_low)[0]
        parts.append(element("text", f"{value:g}", x=x, y=HEIGHT - BOTTOM + 16, text_anchor="middle"))
    parts.append(element("text", "epoch", x=WIDTH - RIGHT, y=HEIGHT - 3, text_anchor="end"))
    drawn = [(number % COLORS, name, x, y) for number, (name, (x, y)) in enumerate(curves.items()) if x]
    for color, _, x, y in drawn:
        points = [place(*point) for point in zip(x, y, strict=True)]
        parts.append(element("polyline", points=_points(points), class_=f"curve-{color}"))
        for cx, cy in points if len(points) < 30 else points[-1:]:
            parts.append(element("circle", cx=cx, cy=cy, r=2.5, class_=f"fill-{color}"))
    drawing = element("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=f"{title} over epochs")
    names = [
        element("span", element("span", class_=f"key fill-{color}"), f"{name} {y[-1]:.4g}")
        for color, name, _, y in drawn
    ]
    if band is not None:
        names.append(element("span", element("span", class_="key band"), band[0]))
    return element("div", element("h3", title), element("p", *names, class_="legend"), drawing, class_="plot")


def _points(points):
    return " ".join(f"{x},{y}" for x, y in points)
