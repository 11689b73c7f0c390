"""Command-line options that programs share."""

import ast

from keras_siamim.recipes import load_recipe, recipe_names


def add_recipe_options(parser):
    """Add `--recipe` and `--set`."""
    parser.add_argument("--recipe", default="digits_tiny", help=f"one of {', '.join(recipe_names())}")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        dest="changes",
        help="values of the recipe that differ, as epochs=10 encoder.depth=4",
    )


def chosen_recipe(options):
    """The `Recipe` that the options name.

    Raises:
        ValueError: For an unknown recipe or key, or a change that is not KEY=VALUE.
    """
    changes = {}
    for change in options.changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"--set takes KEY=VALUE. Received: {change!r}.")
        changes[key] = _value(value)
    return load_recipe(options.recipe, **changes)


def _value(text):
    """A number, pair, flag or None where the text spells one; the text itself otherwise."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
