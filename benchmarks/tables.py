"""Markdown tables of `README.md`."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

README = pathlib.Path(__file__).with_name("README.md")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table of formatted cells."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def write(name: str, text: str, path: pathlib.Path = README) -> None:
    """Replace the text between the markers `<!-- NAME -->` and `<!-- end of NAME -->` of a file.

    Raises:
        ValueError: If the file does not contain the markers.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    content = pathlib.Path(path).read_text()
    if begin not in content or end not in content:
        raise ValueError(f"`path` must be a file with the markers {begin} and {end}. Received: {path}.")
    head, rest = content.split(begin, 1)
    pathlib.Path(path).write_text(f"{head}{begin}\n\n{text}\n\n{end}{rest.split(end, 1)[1]}")
