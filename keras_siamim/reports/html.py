"""HTML by functions: elements whose text is always escaped, tables, embedded images, and complete pages."""

from __future__ import annotations

import base64
import html
import importlib.resources
from collections.abc import Iterable, Sequence
from pathlib import Path

from keras_siamim.files import printable

# Elements without content.
VOID = ("img", "line", "circle", "rect", "polyline", "polygon", "meta")


class Html(str):
    """Text that is HTML already. Every other string is escaped where it becomes part of an element."""


def escaped(text: object) -> Html:
    """Return text as HTML that shows it literally.

    Args:
        text: `Html`, which is returned unchanged, or any object, whose string is escaped.

    Example:
        >>> escaped("<b> & co.")
        '&lt;b&gt; &amp; co.'
    """
    return text if isinstance(text, Html) else Html(html.escape(printable(str(text))))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """Return an element with escaped children and attributes.

    Args:
        tag: String. Name of the element.
        *children: `Html`, or objects whose strings are escaped.
        **attributes: Values by name; None leaves an attribute out. A trailing underscore of a name is dropped, and
            others become hyphens: `class_` is `class`.

    Example:
        >>> element("p", "a < b", class_="note")
        '<p class="note">a &lt; b</p>'
    """
    pairs = ((name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items() if value is not None)
    opening = "".join([tag, *(f' {name}="{escaped(value)}"' for name, value in pairs)])
    if tag in VOID:
        return Html(f"<{opening}/>")
    return Html(f"<{opening}>{join(children)}</{tag}>")


def join(parts: Iterable[object]) -> Html:
    """Return the concatenation of parts, each escaped unless it is `Html`."""
    return Html("".join(map(escaped, parts)))


def section(title: str, *children: object) -> Html:
    """Return a section with a heading, or nothing if no child has content."""
    content = join(children)
    return element("section", element("h2", title), content) if content else Html("")


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> Html:
    """Return a table that scrolls sideways where it is wider than the screen. The first cell of a row is its heading.

    Args:
        header: Cells of the first row.
        rows: Rows of as many cells.

    Example:
        >>> table(["", "k-NN"], [["trained", "84 %"]]).count("<td>")
        1
    """
    head = element("tr", *(element("th", cell, scope="col") for cell in header))
    body = [
        element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in cells))
        for first, *cells in rows
    ]
    return element("div", element("table", element("thead", head), element("tbody", *body)), class_="scroll")


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Return a list of names and values. Values that are None or empty are left out."""
    items = [
        element("div", element("dt", name), element("dd", value)) for name, value in pairs if value not in (None, "")
    ]
    return element("dl", *items) if items else Html("")


def image(path: Path, description: str) -> Html:
    """Return an embedded PNG image with a caption. Wide ones scroll sideways on a phone, so that they stay readable.

    Args:
        path: Path of the file.
        description: String. Caption, and text for readers who do not see the image.

    Raises:
        OSError: If the file cannot be read.
    """
    content = path.read_bytes()
    # Bytes [16, 24) of a PNG are its sides. With them, a page keeps its layout while images load.
    width, height = (int.from_bytes(content[start : start + 4], "big") for start in (16, 20))
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    readable = f"min-width: {0.6 * width:.0f}px"
    picture = element("img", src=source, alt=description, width=width, height=height, style=readable)
    return element("figure", element("div", picture, class_="scroll"), element("figcaption", description))


def page(title: str, *content: object) -> str:
    """Return a complete page: one file without scripts that needs nothing else, in a light and a dark theme.

    Args:
        title: String.
        *content: Parts of the body.

    Example:
        >>> "prefers-color-scheme: dark" in page("Runs", element("p", "none"))
        True
    """
    style = importlib.resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(style)),
    ]
    body = element("main", element("h1", title), *content)
    return "<!DOCTYPE html>\n" + element("html", element("head", *head), element("body", body), lang="en") + "\n"
