"""Figures as Markdown, in their places of `README.md`."""

import pathlib

README = pathlib.Path(__file__).with_name("README.md")


def table(columns, rows):
    """A Markdown table; cells are formatted already."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def write(name, text, path=README):
    """Put text between the marks of a part, `<!-- NAME -->` and `<!-- end of NAME -->`.

    Raises:
        ValueError: If the file has no such marks.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    whole = pathlib.Path(path).read_text()
    if begin not in whole or end not in whole:
        raise ValueError(f"{path} must hold the marks {begin} and {end}.")
    head, rest = whole.split(begin, 1)
    pathlib.Path(path).write_text(f"{head}{begin}\n\n{text}\n\n{end}{rest.split(end, 1)[1]}")
