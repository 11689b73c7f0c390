"""Command-line options that several commands share, and the types of their values.

The types are functions for the argument `type` of `add_argument`. They raise `argparse.ArgumentTypeError` with the rule
and the value, to which the parser adds the name of the option.
"""

import argparse
import ast
import pathlib
from collections.abc import Callable
from typing import Any

from keras_siamim.arguments import number_in, whole_number
from keras_siamim.recipes import Recipe, load_recipe, recipe_names

DEFAULT_RECIPE = "digits_tiny"


def name_option(text: str) -> str:
    """Return the value of an option that is a name, or a name or a path.

    Raises:
        argparse.ArgumentTypeError: If `text` is empty or blank.

    Example:
        >>> name_option("tfds:cifar10")
        'tfds:cifar10'
    """
    if not text.strip():
        raise argparse.ArgumentTypeError(f"must not be empty. Received: {text!r}.")
    return text


def path_option(text: str) -> pathlib.Path:
    """Convert the value of an option to a path.

    Raises:
        argparse.ArgumentTypeError: If `text` is empty or blank.

    Example:
        >>> path_option("runs").name
        'runs'
    """
    # `Path("")` is the working directory, which an unset shell variable must not select.
    return pathlib.Path(name_option(text))


def short_name(path: str | pathlib.Path) -> str:
    """Return a name for a run folder or a file, with the name of the parent if its own is a number.

    Example:
        >>> short_name("runs/digits_tiny/1"), short_name("runs/first"), short_name("small.keras")
        ('digits_tiny-1', 'first', 'small')
    """
    path = pathlib.Path(path).absolute()
    if path.name.isdigit():
        return f"{path.parent.name}-{path.name}"
    return path.name if path.is_dir() else path.stem


def count_option(text: str) -> int:
    """Convert the value of an option to a whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: If `text` is anything else.

    Example:
        >>> count_option("12")
        12
    """
    return _whole_number(text, minimum=1)


def non_negative_option(text: str) -> int:
    """Convert the value of an option to a whole number of at least 0.

    Raises:
        argparse.ArgumentTypeError: If `text` is anything else.

    Example:
        >>> non_negative_option("0")
        0
    """
    return _whole_number(text, minimum=0)


def _whole_number(text, minimum):
    try:
        return whole_number("", int(text), minimum)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, {minimum} or more. Received: {text!r}.") from None


def number_option(interval: str) -> Callable[[str], float]:
    """Return the type of an option that is a number.

    Args:
        interval: String. Interval of the valid values, such as `"(0, 1]"`, see `arguments.number_in`.

    Example:
        >>> number_option("(0, inf)")("1e-3")
        0.001
    """

    def convert(text):
        try:
            return number_in("", float(text), interval)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a number in {interval}. Received: {text!r}.") from None

    return convert


def change_option(text: str) -> tuple[str, Any]:
    """Convert the value of `--set` to a key and its value, a Python literal or else a string.

    Raises:
        argparse.ArgumentTypeError: If `text` is not of the form KEY=VALUE.

    Example:
        >>> change_option("encoder.depth=4"), change_option("model.loss=unigrad")
        (('encoder.depth', 4), ('model.loss', 'unigrad'))
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE. Received: {text!r}.")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return key, value


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Add the options `--recipe` and `--set` to a parser.

    Args:
        parser: An `argparse.ArgumentParser`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_recipe_options(parser)
        >>> parser.parse_args(["--set", "epochs=3"]).changes
        [('epochs', 3)]
    """
    parser.add_argument(
        "--recipe", type=name_option, help=f"one of {', '.join(recipe_names())}; default: {DEFAULT_RECIPE}"
    )
    parser.add_argument(
        "--set",
        type=change_option,
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
        ValueError: If the recipe or a key is unknown, or a value is invalid.

    Example:
        >>> chosen_recipe(argparse.Namespace(recipe=None, changes=[("epochs", 3)])).epochs
        3
    """
    if options.recipe is None and recorded is not None:
        return recorded.override(dict(options.changes))
    return load_recipe(options.recipe or DEFAULT_RECIPE, **dict(options.changes))
