"""Command-line options that several commands share."""

import argparse
import ast
import pathlib

from keras_siamim.recipes import Recipe, load_recipe, recipe_names

DEFAULT_RECIPE = "digits_tiny"


def path_option(text: str) -> pathlib.Path:
    """Convert the value of an option to a path, for the argument `type` of `add_argument`.

    Args:
        text: String. The value from the command line.

    Returns:
        A `pathlib.Path`.

    Raises:
        argparse.ArgumentTypeError: If `text` is empty or blank.

    Example:
        >>> path_option("runs").name
        'runs'
    """
    # `Path("")` is the working directory, which an unset shell variable must not select.
    if not text.strip():
        raise argparse.ArgumentTypeError(f"must be a non-empty path. Received: {text!r}.")
    return pathlib.Path(text)


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Add the options `--recipe` and `--set` to a parser.

    Args:
        parser: An `argparse.ArgumentParser`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_recipe_options(parser)
        >>> parser.parse_args(["--set", "epochs=3"]).changes
        ['epochs=3']
    """
    parser.add_argument("--recipe", help=f"one of {', '.join(recipe_names())}; default: {DEFAULT_RECIPE}")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="changes",
        help="change values of the recipe, for example epochs=10 encoder.depth=4",
    )


def chosen_recipe(options: argparse.Namespace, recorded: Recipe | None = None) -> Recipe:
    """Return the recipe that the options select.

    Args:
        options: Parsed options of `add_recipe_options`.
        recorded: `Recipe` of the run to resume. It is used, with the changes of `--set`, if `--recipe` is left out.
            Defaults to None.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: If the recipe or a key is unknown, or a change is not of the form KEY=VALUE.

    Example:
        >>> chosen_recipe(argparse.Namespace(recipe=None, changes=["epochs=3"])).epochs
        3
    """
    changes = {}
    for change in options.changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"`--set` must be KEY=VALUE. Received: {change!r}.")
        changes[key] = _parse_value(value)
    if options.recipe is None and recorded is not None:
        return recorded.override(changes)
    return load_recipe(options.recipe or DEFAULT_RECIPE, **changes)


def _parse_value(text):
    """Return the Python literal that the text spells, otherwise the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
