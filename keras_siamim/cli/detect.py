"""Train a detector on images with boxes, starting from a pre-trained encoder, or resume such a run.

    keras-siamim detect --encoder RUN_OR_FILE --data path/to/coco [--masks]
    keras-siamim detect --encoder RUN_OR_FILE --data path/to/lvis --lvis --masks
    keras-siamim detect --encoder RUN_OR_FILE --data tfds:NAME --recipe small
    keras-siamim detect --run runs/detect/1

The detector is ViTDet: Faster R-CNN or, with `--masks`, Mask R-CNN. The data are a data set of TFDS with boxes, or a
folder in the layout of COCO or LVIS. The recipes `coco` and `lvis` are those of the paper's results; `small` is for a
few hundred images. Training stops `--validations` times to compute average precision on validation images. At the end,
the command scores the complete test split.

The run folder is that of `--run`, or a new numbered one in `detect/` below `--runs`. It contains `run.json`,
`encoder.keras`, `bad_images.jsonl` (if there are bad images), `log.csv`, `validation.csv`, `checkpoints/`, and at the
end `detector.keras`, `detections.json` in the format of COCO, `evaluation.json`, `evaluation.md`, `precision.md` with
the average precision by size and by class, and `detections.png`. With `--export`, the detector is also exported as a
SavedModel. The exit status is 75 after SIGTERM and 130 after Ctrl-C; the same command resumes the run.
"""

import argparse
import sys
from collections.abc import Sequence

from keras_siamim.cli.detection_run import detect
from keras_siamim.cli.labeled_batches import print_notes
from keras_siamim.cli.options import count_option, name_option, number_option, path_option
from keras_siamim.cli.run_folder import absolute, make_run_folder
from keras_siamim.cli.task_run import add_task_options, check_validations, parse_task, run_task
from keras_siamim.data.bad_images import BAD_IMAGES, Ledger
from keras_siamim.data.sources.boxes import BoxSource, open_boxes
from keras_siamim.detection.recipes import RECIPES, DetectorRecipe, scaled_to
from keras_siamim.distribution import set_up

NAME = "detect"
# Options that determine the result. A run records them and can be resumed with the same ones only.
SETTINGS = (
    *("encoder", "data", "train_split", "val_split", "test_split", "masks", "lvis", "recipe", "image_size", "scale"),
    *("steps", "validations", "batch_size", "learning_rate", "layer_decay", "window_size", "max_objects"),
    *("dtype", "seed"),
)
# Options with defaults from the recipe.
_OF_RECIPE = ("image_size", "scale", "steps", "batch_size", "learning_rate", "window_size")


def build_parser() -> argparse.ArgumentParser:
    """Create the argument parser of the command.

    Example:
        >>> build_parser().parse_args(["--encoder", "runs/mine", "--data", "path/to/coco", "--masks"]).masks
        True
    """
    parser = argparse.ArgumentParser(
        prog="keras-siamim detect", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_task_options(parser)
    parser.add_argument("--masks", action="store_true", help="segment the objects too")
    parser.add_argument("--lvis", action="store_true", help="annotations and average precision of LVIS")
    parser.add_argument("--recipe", choices=tuple(RECIPES), help="default: coco, or lvis with --lvis")
    parser.add_argument("--train-split", type=name_option, default="train")
    parser.add_argument("--val-split", default="val", help="split for average precision during training; '' for none")
    parser.add_argument("--test-split", type=name_option, default="test")
    parser.add_argument("--image-size", type=count_option, help="side of the square images in pixels")
    parser.add_argument(
        "--scale", type=number_option("(0, inf)"), nargs=2, metavar=("LOW", "HIGH"), help="range of large-scale jitter"
    )
    parser.add_argument("--steps", type=count_option, help="training steps")
    parser.add_argument(
        "--validations", type=count_option, default=5, help="validations, at equal distances; default: 5"
    )
    parser.add_argument("--validation-images", type=count_option, default=500, help="validation images; default: 500")
    parser.add_argument("--batch-size", type=count_option)
    parser.add_argument("--learning-rate", type=number_option("(0, inf)"), help="per 64 images")
    parser.add_argument(
        "--layer-decay", type=number_option("(0, 1]"), help="default: 0.7; 0.8 from 24 blocks, 0.9 from 32 blocks"
    )
    parser.add_argument("--window-size", type=count_option, help="side of the windows of attention in patches")
    parser.add_argument(
        "--max-objects", type=count_option, help="largest number of objects per training image; default: all"
    )
    parser.add_argument("--dtype", choices=("float32", "mixed_bfloat16", "mixed_float16"), default="float32")
    parser.add_argument("--export", type=path_option, help="parent of the exported SavedModel; default: no export")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and score the detector that the command line selects.

    Args:
        arguments: List of strings. Defaults to the command line of the process.

    Returns:
        The exit status: 0 for a finished run, 75 after SIGTERM, 130 after Ctrl-C, 1 if training fails.

    Raises:
        SystemExit: With status 2, if options are invalid.
    """
    parser = build_parser()
    try:
        options = parse_task(parser, arguments)
        recipe = choose_recipe(options)
        distribution = set_up(options.devices)
        options.data = absolute(options.data)
        ledger = Ledger(options.run and options.run / BAD_IMAGES)
        sources = open_splits(options, ledger)
        folder = make_run_folder(options, {"name": NAME}, distribution.workers)
        ledger.keep_in(folder / BAD_IMAGES)
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    settings = {name: getattr(options, name) for name in SETTINGS}

    def work(run, encoder):
        detect(run, encoder, sources, folder, options, recipe, distribution, ledger)

    return run_task(folder, NAME, settings, work)


def choose_recipe(options: argparse.Namespace) -> DetectorRecipe:
    """Return the recipe that the options select, and set the options that are left out to its values.

    Args:
        options: Parsed options of the command, which are changed.

    Raises:
        ValueError: If an option is out of its range.
    """
    options.recipe = options.recipe or ("lvis" if options.lvis else "coco")
    recipe = RECIPES[options.recipe]()
    if options.image_size is not None:
        recipe = scaled_to(recipe, options.image_size)
    for name in _OF_RECIPE:
        if getattr(options, name) is None:
            setattr(options, name, getattr(recipe, name))
    options.scale = list(options.scale)
    if options.scale[0] > options.scale[1]:
        raise ValueError(f"`--scale` must be LOW HIGH with LOW <= HIGH. Received: {options.scale}.")
    check_validations(options)
    return recipe


def open_splits(options: argparse.Namespace, ledger: Ledger) -> list[BoxSource]:
    """Open the splits of training, of test and, if there is one, of validation.

    Args:
        options: Parsed options of the command.
        ledger: `Ledger` of missing and unreadable images, which are left out.

    Raises:
        ValueError: If a split can't be opened, has too many bad images, or the splits have different categories.
    """
    splits = [options.train_split, options.test_split, *filter(None, [options.val_split])]
    sources = [open_boxes(options.data, split, options.lvis, ledger) for split in splits]
    train = sources[0]
    for split, source in zip(splits, sources, strict=True):
        print_notes(source.notes)
        if (source.category_ids, source.class_names) != (train.category_ids, train.class_names):
            raise ValueError(
                f"`--data` must have the same categories in each split. Received: {len(train.class_names)} in "
                f"{splits[0]!r} and {len(source.class_names)}, or others, in {split!r}."
            )
    return sources


if __name__ == "__main__":
    sys.exit(main())
