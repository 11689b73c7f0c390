"""Command-line options that programs share."""

import ast

from keras_siamim.recipes import load_recipe, recipe_names

DEFAULT_RECIPE = "digits_tiny"


def add_recipe_options(parser):
    """Add `--recipe` and `--set`."""
    parser.add_argument("--recipe", help=f"one of {', '.join(recipe_names())}; default: {DEFAULT_RECIPE}")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="changes",
        help="values of the recipe that differ, as epochs=10 encoder.depth=4",
    )


def chosen_recipe(options, recorded=None):
    """The `Recipe` that the options name.

    Args:
        options: What `add_recipe_options` parsed.
        recorded: The `Recipe` of the run to go on with, which `--set` changes where `--recipe` is left out.

    Raises:
        ValueError: For an unknown recipe or key, or a change that is not KEY=VALUE.
    """
    changes = {}
    for change in options.changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"--set takes KEY=VALUE. Received: {change!r}.")
        changes[key] = _value(value)
    if options.recipe is None and recorded is not None:
        return recorded.override(changes)
    return load_recipe(options.recipe or DEFAULT_RECIPE, **changes)


def _value(text):
    """A number, pair, flag or None where the text spells one; the text itself otherwise."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
