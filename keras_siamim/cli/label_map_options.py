"""Options of the commands that read images with label maps, and their splits."""

import argparse
from collections.abc import Sequence

from keras_siamim.cli.labeled_batches import print_notes
from keras_siamim.cli.options import count_option, non_negative_option
from keras_siamim.data.sources.label_maps import LabelMapSource
from keras_siamim.data.sources.opening_label_maps import open_label_maps


def add_label_map_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe the classes of label maps to a parser.

    Args:
        parser: An `argparse.ArgumentParser`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_label_map_options(parser)
        >>> parser.parse_args(["--classes", "150", "--first-label", "1", "--ignore-labels", "0"]).ignore_labels
        [0]
    """
    parser.add_argument(
        "--classes", type=count_option, metavar="N", help="classes of the label maps; default: those found"
    )
    parser.add_argument(
        "--first-label", type=non_negative_option, metavar="N", help="stored label of the first class; default: 0"
    )
    parser.add_argument(
        "--ignore-labels",
        type=non_negative_option,
        nargs="+",
        metavar="N",
        help="stored labels of pixels without a class; default: 255",
    )


def open_label_map_splits(options: argparse.Namespace, splits: Sequence[str]) -> list[LabelMapSource]:
    """Open splits of images with label maps and with the classes of the first one.

    Args:
        options: Parsed options with `data` and those of `add_label_map_options`.
        splits: Strings. Names of the splits, that of the training images first.

    Returns:
        List of `LabelMapSource`.

    Raises:
        ValueError: If the images cannot be opened, or the classes are invalid.
    """
    train = open_label_maps(options.data, splits[0], options.classes, options.first_label, options.ignore_labels)
    sources = [train, *(open_label_maps(options.data, split, labeling=train.labeling) for split in splits[1:])]
    for source in sources:
        print_notes(source.notes)
    return sources
