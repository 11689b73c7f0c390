"""Export an encoder, or a classifier, as a SavedModel for TensorFlow Serving.

    keras-siamim export RUN_OR_FILE --to saved_models/NAME [--classifier HEAD.keras] [--weights-dtype float16]

`RUN_OR_FILE` is a `.keras` file of an encoder, an objective or a fine-tuned classifier, or a run's folder that holds
`encoder.keras` or `model.keras`, trained on any backend. Prints where the version lies and how far its
outputs are from Keras's.
"""

import argparse
import sys

import keras

import keras_siamim  # noqa: F401  registers the classes that the files name
from keras_siamim.export import export_saved_model
from keras_siamim.export.saved_model import POOLINGS, WEIGHTS_DTYPES
from keras_siamim.presets import load_model


def parse(arguments=None):
    """The program's arguments."""
    parser = argparse.ArgumentParser(
        prog="keras-siamim export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="RUN_OR_FILE", help="a .keras file or a run's folder")
    parser.add_argument("--to", required=True, metavar="DIRECTORY", help="where the numbered versions lie")
    parser.add_argument("--version", type=int, help="the next one by default")
    parser.add_argument("--classifier", metavar="HEAD.keras", help="model from pooled features to logits")
    parser.add_argument("--pooling", choices=POOLINGS, help="mean by default")
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument(
        "--crop-fraction", type=float, help="default: as `evaluate`, 0.875, which is 'resize 256, crop 224'"
    )
    parser.add_argument("--weights-dtype", choices=WEIGHTS_DTYPES, default="float32")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Load, export, report; the process's exit status."""
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
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{export.path}  {export.size / 2**20:.1f} MiB")
    print(f"largest difference from Keras on {keras.config.backend()}: {export.error:.1e} of the largest output")
    if options.weights_dtype != "float32":
        print(f"with weights in {options.weights_dtype}: {export.rounding_error:.1e} of the largest output")
    return 0


if __name__ == "__main__":
    sys.exit(main())
