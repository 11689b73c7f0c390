"""Export an encoder, or a classifier, as a SavedModel for TensorFlow Serving.

    keras-siamim export RUN_OR_FILE --to saved_models/NAME [--classifier HEAD.keras] [--weights-dtype float16]

RUN_OR_FILE is a `.keras` file of an encoder, an objective or a fine-tuned classifier, or a run folder that contains
`encoder.keras` or `model.keras`. The model may come from any backend. Prints the path of the exported version and the
largest difference between its outputs and those of Keras.
"""

import argparse
import sys
from collections.abc import Sequence

import keras

import keras_siamim  # noqa: F401  registers the classes that saved files refer to
from keras_siamim.cli.options import count_option, name_option, number_option, path_option
from keras_siamim.export import export_saved_model
from keras_siamim.export.saved_model import WEIGHTS_DTYPES
from keras_siamim.ops.pooling import POOLINGS
from keras_siamim.presets import load_model


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: List of strings. Defaults to the command line of the process.

    Returns:
        The parsed options.

    Example:
        >>> parse(["encoder.keras", "--to", "saved_models/digits"]).weights_dtype
        'float32'
    """
    parser = argparse.ArgumentParser(
        prog="keras-siamim export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=name_option, metavar="RUN_OR_FILE", help=".keras file or run folder")
    parser.add_argument(
        "--to", type=path_option, required=True, metavar="DIRECTORY", help="directory of the numbered versions"
    )
    parser.add_argument("--version", type=count_option, help="number of the version; default: the next free one")
    parser.add_argument(
        "--classifier", type=name_option, metavar="HEAD.keras", help=".keras file that maps pooled features to logits"
    )
    parser.add_argument("--pooling", choices=POOLINGS, help="pooling of the tokens; default: mean")
    parser.add_argument(
        "--image-size", type=count_option, nargs=2, metavar=("HEIGHT", "WIDTH"), help="default: that of the encoder"
    )
    parser.add_argument(
        "--crop-fraction",
        type=number_option("(0, 1]"),
        help="default: 0.875, as in `evaluate` (resize to 256, crop to 224)",
    )
    parser.add_argument("--weights-dtype", choices=WEIGHTS_DTYPES, default="float32")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export the model that the command line selects.

    Args:
        arguments: List of strings. Defaults to the command line of the process.

    Returns:
        The exit status, 1 if the model cannot be loaded or the export fails, otherwise 0.
    """
    options = parse(arguments)
    try:
        export = export_saved_model(
            load_model(options.source),
            options.to,
            version=options.version,
            head=load_model(options.classifier) if options.classifier else None,
            pooling=options.pooling,
            image_size=options.image_size,
            crop_fraction=options.crop_fraction,
            weights_dtype=options.weights_dtype,
        )
    except (ValueError, RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{export.path}  {export.size / 2**20:.1f} MiB")
    print(f"largest difference from Keras on {keras.config.backend()}: {export.error:.1e} of the largest output")
    if options.weights_dtype != "float32":
        print(f"with weights in {options.weights_dtype}: {export.rounding_error:.1e} of the largest output")
    return 0


if __name__ == "__main__":
    sys.exit(main())
