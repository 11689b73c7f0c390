"""Train UPerNet on images with label maps, starting from a pre-trained encoder, or resume such a run.

    keras-siamim segment --encoder RUN_OR_FILE --data tfds:scene_parse150
    keras-siamim segment --encoder RUN_OR_FILE --data path/to/images_and_masks --crop-size 256 --steps 4000 [--frozen]
    keras-siamim segment --run runs/segment/1

The data are a data set of TFDS with label maps, or a folder with images/ and masks/ (PNG, matched by name). The
defaults are those of ADE20k: crops of 512 pixels, 160,000 steps of 16 images, and learning rate 1e-4 per 16 images.
Training stops `--validations` times to compute the mean IoU on validation images. At the end, the command scores the
complete test split with sliding windows.

The run folder is that of `--run`, or a new numbered one in `segment/` below `--runs`. It contains `run.json`,
`encoder.keras`, `log.csv`, `validation.csv`, `checkpoints/`, and at the end `segmenter.keras`, `evaluation.json`,
`evaluation.md`, `classes.md` with the IoU of each class, and `segmentations.png`. With `--export`, the segmenter is
also exported as a SavedModel. The exit status is 75 after SIGTERM and 130 after Ctrl-C; the same command resumes the
run.
"""

import argparse
import sys
from collections.abc import Sequence

from keras_siamim.cli.label_map_options import add_label_map_options, open_label_map_splits
from keras_siamim.cli.options import count_option, name_option, number_option, path_option
from keras_siamim.cli.run_folder import absolute, make_run_folder
from keras_siamim.cli.segmentation_run import BATCH_SIZE, CROP_SIZE, LEARNING_RATE, STEPS, segment
from keras_siamim.cli.task_run import add_task_options, check_validations, parse_task, run_task
from keras_siamim.distribution import set_up

NAME = "segment"
# Options that determine the result. A run records them and can be resumed with the same ones only.
SETTINGS = (
    *("encoder", "data", "train_split", "val_split", "test_split", "classes", "first_label", "ignore_labels"),
    *("frozen", "crop_size", "short_side", "steps", "validations", "batch_size", "learning_rate", "layer_decay"),
    *("head_width", "dtype", "seed"),
)


def build_parser() -> argparse.ArgumentParser:
    """Create the argument parser of the command.

    Example:
        >>> build_parser().parse_args(["--encoder", "runs/mine", "--data", "tfds:scene_parse150"]).steps
        160000
    """
    parser = argparse.ArgumentParser(
        prog="keras-siamim segment", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_task_options(parser)
    add_label_map_options(parser)
    parser.add_argument("--train-split", type=name_option, default="train")
    parser.add_argument("--val-split", default="val", help="split for the mean IoU during training; '' for none")
    parser.add_argument("--test-split", type=name_option, default="test")
    parser.add_argument("--frozen", action="store_true", help="train the heads only")
    parser.add_argument("--crop-size", type=count_option, default=CROP_SIZE, help="side of crops and windows in pixels")
    parser.add_argument("--short-side", type=count_option, help="shorter side of images; default: the crop size")
    parser.add_argument("--steps", type=count_option, default=STEPS, help="training steps; default: %(default)s")
    parser.add_argument(
        "--validations", type=count_option, default=10, help="validations, at equal distances; default: 10"
    )
    parser.add_argument("--validation-images", type=count_option, default=100, help="validation images; default: 100")
    parser.add_argument("--batch-size", type=count_option, default=BATCH_SIZE)
    parser.add_argument(
        "--learning-rate",
        type=number_option("(0, inf)"),
        default=LEARNING_RATE,
        help="per 16 images; default: %(default)s",
    )
    parser.add_argument(
        "--layer-decay", type=number_option("(0, 1]"), help="default: 0.65, or 0.75 for encoders of up to 6 blocks"
    )
    parser.add_argument("--head-width", type=count_option, help="channels of the heads; default: the encoder's width")
    parser.add_argument("--dtype", choices=("float32", "mixed_bfloat16", "mixed_float16"), default="float32")
    parser.add_argument("--export", type=path_option, help="parent of the exported SavedModel; default: no export")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and score the segmenter that the command line selects.

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
        check_validations(options)
        distribution = set_up(options.devices)
        splits = [options.train_split, options.test_split, *filter(None, [options.val_split])]
        options.data = absolute(options.data)
        sources = open_label_map_splits(options, splits)
        folder = make_run_folder(options, {"name": NAME}, distribution.workers)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    settings = {name: getattr(options, name) for name in SETTINGS}
    return run_task(
        folder,
        NAME,
        settings,
        lambda run, encoder: segment(run, encoder, sources, folder, options, distribution),
    )


if __name__ == "__main__":
    sys.exit(main())
