"""Look at every image once, and choose a recipe for them.

    keras-siamim doctor --data path/to/images

The command prints the number of images, their sizes, shapes and colors, the images that cannot be read and those of
equal content. Then it prints the recipe that fits them, with the reason of each choice, the memory and the time that it
takes on this machine, and the command that trains it.
Nothing is written and nothing is changed.
"""

import argparse
import collections
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_siamim._backend import free_accelerator_memory, has_accelerator
from keras_siamim.callbacks.log_line import print_line
from keras_siamim.cli.labeled_batches import print_notes
from keras_siamim.cli.options import count_option, name_option
from keras_siamim.data.bad_images import LIMIT
from keras_siamim.data.sources import Source, open_source, sample_of
from keras_siamim.data.survey import Survey, survey
from keras_siamim.files import printable
from keras_siamim.recipes import Choice, Recipe, choose_recipe, expected_cost, load_recipe
from keras_siamim.runs.machine import free_memory, matrix_product_rate

# Images and groups of images that are listed by name.
LISTED = 10
# Ratio of long to short side above which square crops leave out much of an image.
WIDE = 1.8
# Fraction of the images above which a property counts as that of all of them.
MOST = 0.95
# Number of images below which features are hardly better than random ones.
FEW = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at the images that the command line selects, and print what is found and chosen.

    Args:
        arguments: List of strings. Defaults to the command line of the process.

    Returns:
        The exit status: 0, or 1 if no image can be read.

    Raises:
        ValueError: If the images do not exist.
    """
    parser = argparse.ArgumentParser(
        prog="keras-siamim doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=name_option, required=True, help="images in a form that `pretrain` accepts")
    parser.add_argument("--train-split", type=name_option, default="train", help="name of the split; default: train")
    parser.add_argument("--images", type=count_option, metavar="N", help="look at a random sample of N images")
    options = parser.parse_args(arguments)
    source = open_source(options.data, options.train_split)
    print_notes(source.notes)
    found = look(source, options.images)
    for line in findings(found):
        print_line(line)
    if not found.readable:
        return 1
    choice = choice_for(found, source.size)
    print_line("\nchosen:")
    recipe = load_recipe(choice.recipe, **choice.changes)
    for line in aligned([*choice.reasons, *cost_of(recipe, source.size)]):
        print_line(line)
    print_line(f"\n{command(options, choice)}")
    return 0


def look(source: Source, images: int | None = None) -> Survey:
    """Look at the images of a source, with a progress bar in a terminal.

    Args:
        source: Source of images.
        images: Integer. Size of the random sample to look at. Defaults to None, all images.
    """
    sample = source if images is None else sample_of(source, images)
    bar = keras.utils.Progbar(sample.size, unit_name="image") if sys.stdout.isatty() else None
    return survey(sample, lambda seen: bar.update(min(seen, sample.size)) if bar else None)


def choice_for(found: Survey, images: int, values: Mapping[str, Any] | None = None) -> Choice:
    """Return the recipe for images that were looked at, on this machine.

    Args:
        found: `Survey` with one readable image or more.
        images: Integer. Number of images of the source, of which the survey may have looked at a sample.
        values: Dictionary of values of the user, which win, by key of the recipe. Defaults to none.

    Raises:
        ValueError: If a key or a value is invalid.
    """
    looked_at = found.readable + len(found.unreadable)
    accelerator = has_accelerator()
    return choose_recipe(
        images=max(1, round(images * found.different / looked_at)),
        short_side=int(np.median(found.sides.min(axis=1))),
        gray=bool(found.gray.mean() >= MOST),
        accelerator=accelerator,
        memory=_free_memory(accelerator),
        values=values,
    )


def cost_of(recipe: Recipe, images: int) -> list[tuple[str, str, str]]:
    """Return the rows of `expected_cost` on this machine.

    Args:
        recipe: `Recipe`.
        images: Integer. Number of training images.
    """
    accelerator = has_accelerator()
    rate = None if accelerator else matrix_product_rate()
    return expected_cost(recipe, images, rate, _free_memory(accelerator))


def _free_memory(accelerator):
    return free_accelerator_memory() if accelerator else free_memory()


def findings(found: Survey) -> list[str]:
    """Return lines of text about the images: what they are, and what to know before training.

    Args:
        found: `Survey`.
    """
    source, duplicates = found.source, found.duplicates()
    repeated = found.readable - found.different
    lines = [("images", f"{found.readable + len(found.unreadable):,} of {source.name}", "")]
    lines.append(("unreadable", f"{len(found.unreadable):,}", ""))
    if found.readable:
        lines.append(("repeated", f"{repeated:,}", "images whose pixels are those of another image"))
        lines += _sizes(found.sides)
        lines.append(("gray", f"{found.gray.sum():,}", "images without color"))
    classes = len(source.class_names)
    lines.append(("classes", f"{classes:,}" if classes else "none", "labels are used for evaluation only"))
    text = aligned(lines)
    if found.unreadable:
        text.append("\nunreadable images, which training replaces by others:")
        text += _first([f"{printable(path)}: {reason}" for path, reason in found.unreadable.items()])
    if duplicates:
        text.append("\nimages of equal content, which count more than once in training:")
        text += _first([" = ".join(map(printable, group)) for group in duplicates])
    return text + [f"\n{line}" for line in advice(found)]


def advice(found: Survey) -> list[str]:
    """Return sentences about properties that make training difficult.

    Args:
        found: `Survey`.
    """
    lines = []
    if len(found.unreadable) > LIMIT * (found.readable + len(found.unreadable)):
        lines.append(
            f"More than {LIMIT:.0%} of the images are unreadable, which stops training. Repair or remove them, or "
            "raise `--bad-limit`."
        )
    if found.different < FEW:
        lines.append(f"{found.different:,} different images are too few to learn from: use some hundreds at least.")
    if found.readable and np.median(_ratios(found.sides)) > WIDE:
        lines.append(
            "Most images are long. Views are square by default; `--set image_size=(HEIGHT, WIDTH)` with multiples of "
            "the patch size keeps more of each image."
        )
    if found.readable and 0.1 < found.gray.mean() < MOST:
        lines.append("Some images are gray and some have color, which tells them apart more easily than their content.")
    return lines


def command(options: argparse.Namespace, choice: Choice) -> str:
    """Return the command that trains a choice.

    Args:
        options: Parsed options of this command.
        choice: `Choice`.
    """
    words = ["keras-siamim", "pretrain", "--recipe", choice.recipe, "--data", options.data]
    words += [] if options.train_split == "train" else ["--train-split", options.train_split]
    words += ["--set", *(f"{key}={value}" for key, value in choice.changes.items())] if choice.changes else []
    return shlex.join(words)


def aligned(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Return lines with the names, values and remarks of rows in columns.

    Example:
        >>> aligned([("epochs", "200", "as in the recipe"), ("gray", "0%", "")])
        ['  epochs  200  as in the recipe', '  gray    0%']
    """
    names, values = (max(len(row[column]) for row in rows) for column in (0, 1))
    return [f"  {name:<{names}}  {value:<{values}}  {remark}".rstrip() for name, value, remark in rows]


def _sizes(sides):
    counts = collections.Counter(map(tuple, sides.tolist()))
    (height, width), count = counts.most_common(1)[0]
    short, (low, high) = sides.min(axis=1), (sides[sides.prod(axis=1).argsort()[[0, -1]]])
    ratio = np.median(_ratios(sides))
    shapes = f"{(sides[:, 1] > sides[:, 0]).mean():.0%} wide, {(sides[:, 1] < sides[:, 0]).mean():.0%} tall"
    return [
        (
            "most frequent size",
            f"{width} x {height}",
            f"{count / len(sides):.0%} of the images, {len(counts):,} size{'s'[: len(counts) - 1]}",
        ),
        ("smallest, largest", f"{low[1]} x {low[0]}, {high[1]} x {high[0]}", "by number of pixels"),
        ("shorter side", f"{int(np.median(short))}", f"median; 5% are below {int(np.quantile(short, 0.05))}"),
        ("long : short side", f"{ratio:.2f}", f"median; {shapes}"),
    ]


def _ratios(sides):
    return sides.max(axis=1) / sides.min(axis=1)


def _first(lines):
    return [f"  {line}" for line in lines[:LISTED]] + (
        [f"  and {len(lines) - LISTED:,} more"] if lines[LISTED:] else []
    )
