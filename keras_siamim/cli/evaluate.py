"""Evaluate a frozen encoder and compare it with raw pixels and with its own random initialization.

    keras-siamim evaluate --encoder RUN_OR_FILE --data tfds:cifar10 --protocols knn,linear,few_shot,health

Prints a table (accuracies in %) and writes `evaluation.json` and `evaluation.md`. The encoder is a `.keras` file of any
backend, a SavedModel, or a run folder. Features are cached by content, so an interrupted evaluation resumes where it
stopped. The protocol `lars_augmented`, the paper's linear probe on random crops, encodes the images in every epoch.

Protocols on patch tokens: attentive and long_tail need labels, localization and corloc need boxes. segmentation_knn,
segmentation_logistic and segmentation_linear need label maps: a data set of TFDS such as tfds:scene_parse150, or a
folder with images/ and masks/.

Robustness is a property of a fine-tuned classifier: `--classifier FILE --protocols corruption`. The protocol corruption
works with any images; imagenet_a, imagenet_r, imagenet_sketch and imagenet_c need the published data sets.
"""

import argparse
import importlib.metadata
import numbers
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_siamim.batch import IMAGENET_MEAN, IMAGENET_STD
from keras_siamim.cli.labeled_batches import (
    Batches,
    cropped_epochs,
    image_names,
    open_for_classifier,
    open_labeled,
    open_labeled_pair,
    plain_batches,
    second_views,
)
from keras_siamim.cli.options import (
    count_option,
    name_option,
    non_negative_option,
    number_option,
    path_option,
    short_name,
)
from keras_siamim.cli.patch_protocols import PATCH_PROTOCOLS, evaluate_patches
from keras_siamim.cli.segmentation_protocols import add_segmentation_options
from keras_siamim.data.sources import Source
from keras_siamim.evaluation import suite
from keras_siamim.evaluation.baselines import RawPixels, random_initialized
from keras_siamim.evaluation.features import FEATURES, extract_features
from keras_siamim.evaluation.few_shot import read_image_list
from keras_siamim.evaluation.linear_probe import linear_probe
from keras_siamim.evaluation.logits import predict_logits, top1
from keras_siamim.evaluation.result import EvaluationResult
from keras_siamim.evaluation.robustness import (
    VARIANTS,
    corruption_robustness,
    imagenet_c,
    imagenet_c_folders,
    imagenet_classes,
    imagenet_variant,
)
from keras_siamim.presets import load_encoder, load_model
from keras_siamim.types import PathLike

# The paper's linear probe. It trains on augmented images, the other protocols on extracted features.
AUGMENTED_PROBE = "lars_augmented"
CLASSIFIER_PROTOCOLS = (*VARIANTS, "imagenet_c", "corruption")
# Maximum number of test images with a second view, for the alignment metric.
ALIGNED_IMAGES = 2048


def evaluate_encoder(options: argparse.Namespace, protocols: Sequence[str]) -> dict[str, list[EvaluationResult]]:
    """Run protocols on pooled features and on patch tokens, and write the report.

    Args:
        options: Parsed options of the command.
        protocols: Strings. Names of protocols on frozen encoders.

    Returns:
        A dictionary from the name of each encoder to its list of `EvaluationResult`.

    Raises:
        ValueError: If the encoder or the images cannot be opened, or an option is out of range.
    """
    encoder = load_encoder(options.encoder)
    image_size = parse_image_size(options, encoder)
    on_patches = [name for name in protocols if name in PATCH_PROTOCOLS]
    on_features = [name for name in protocols if name not in PATCH_PROTOCOLS]
    rows = evaluate_features(options, on_features, encoder, image_size) if on_features else {}
    if on_patches:

        def report(found):
            suite.write_report(options.output, describe(options, image_size), joined(rows, found))

        rows = joined(rows, evaluate_patches(options, on_patches, encoder, image_size, report))
    return rows


def joined(
    first: dict[str, list[EvaluationResult]], second: dict[str, list[EvaluationResult]]
) -> dict[str, list[EvaluationResult]]:
    """Return the results of two groups of protocols by the names of their encoders.

    Args:
        first: Dictionary from the name of an encoder to its results.
        second: Dictionary like `first`.

    Example:
        >>> joined({"run": [1], "pixels": [2]}, {"run": [3]})
        {'run': [1, 3], 'pixels': [2]}
    """
    return {name: first.get(name, []) + second.get(name, []) for name in dict.fromkeys([*first, *second])}


def evaluate_features(
    options: argparse.Namespace, protocols: Sequence[str], encoder: Any, image_size: tuple[int, int]
) -> dict[str, list[EvaluationResult]]:
    """Run protocols on pooled features and write the report.

    Args:
        options: Parsed options of the command.
        protocols: Strings. Names of protocols on pooled features.
        encoder: Encoder to evaluate.
        image_size: Tuple (height, width) in pixels.

    Returns:
        A dictionary from the name of each encoder to its list of `EvaluationResult`.

    Raises:
        ValueError: If the images cannot be opened, or an option is out of range.
    """
    train, test = open_labeled_pair(
        options.data, options.train_split, options.test_split, options.max_images, options.max_images, options.seed
    )
    num_classes = len(train.class_names) or None
    splits = [plain_batches(part, image_size, options.batch_size, options.resize) for part in (train, test)]
    if "health" in protocols:
        splits.append(second_views(test, image_size, options.batch_size, options.seed, ALIGNED_IMAGES))
    shots = [{**shot, "penalty": options.penalty} for shot in suite.parse_shots(options.shots)]
    if options.shots_list:
        shots.append({"indices": read_image_list(options.shots_list, image_names(train)), "penalty": options.penalty})
    encoders: dict[str, Any] = {}
    rows: dict[str, list[EvaluationResult]] = {}
    if not options.no_baselines:
        encoders["raw pixels"] = RawPixels()
        if isinstance(encoder, keras.Model):
            encoders["random initialization"] = random_initialized(encoder, (*image_size, 3), options.seed)
        else:
            print("skipped the random initialization: an exported model cannot be reinitialized")
    encoders[options.name or short_name(options.encoder)] = encoder
    for name, candidate in encoders.items():
        print(f"{name}: features", flush=True)
        features = [extract_features(candidate, split, options.cache, verbose=1) for split in splits]
        rows[name] = []
        for protocol in protocols:
            print(f"{name}: {protocol}", flush=True)
            if protocol == AUGMENTED_PROBE:
                rows[name] += augmented_probe(candidate, train, splits[1], options, image_size)
            else:
                rows[name] += suite.run_protocol(
                    protocol,
                    features[0],
                    features[1],
                    pooling=options.pooling,
                    shots=shots,
                    paired=features[2] if features[2:] else None,
                    num_classes=num_classes,
                    seed=options.seed,
                    verbose=1,
                )
            suite.write_report(options.output, describe(options, image_size), rows)
    return rows


def augmented_probe(
    encoder: Any, train: Source, test: Batches, options: argparse.Namespace, image_size: tuple[int, int]
) -> list[EvaluationResult]:
    """Run the paper's linear probe on random crops and flips.

    Args:
        encoder: Encoder to evaluate. Only a `keras.Model` can be probed.
        train: Source of the training images.
        test: Batches of the test images.
        options: Parsed options of the command.
        image_size: Tuple (height, width) in pixels.

    Returns:
        A list of one `EvaluationResult`; an empty list for an encoder that is not a `keras.Model`.
    """
    if not isinstance(encoder, keras.Model):
        print(f"skipped {AUGMENTED_PROBE}: the encoder must be a Keras model")
        return []
    batch_size = suite.lars_batch_size(train.size)
    epochs = cropped_epochs(train, image_size, batch_size, options.seed)
    pooling = options.pooling or "mean"
    classes = len(train.class_names)
    return [linear_probe(epochs, test, classes, encoder, pooling, batch_size, seed=options.seed, verbose=2)]


def evaluate_classifier(options: argparse.Namespace, protocols: Sequence[str]) -> dict[str, list[EvaluationResult]]:
    """Run robustness protocols on a classifier and write the report.

    Args:
        options: Parsed options of the command.
        protocols: Strings. Names in `CLASSIFIER_PROTOCOLS`.

    Returns:
        A dictionary from the name of the classifier to its list of `EvaluationResult`.

    Raises:
        ValueError: If the classifier or the images cannot be opened.
    """
    if not options.classifier:
        raise ValueError(f"`--classifier` must be given for {', '.join(protocols)}. Received: {options.classifier!r}.")
    classifier = load_model(options.classifier)
    image_size = parse_image_size(options, getattr(classifier, "encoder", classifier))
    results = []
    for protocol in protocols:
        print(protocol, flush=True)
        if protocol == "imagenet_c":
            errors: dict[str, list[float]] = {}
            for corruption, folders in imagenet_c_folders(options.data).items():
                errors[corruption] = [1 - top1(*imagenet_logits(classifier, f, options, image_size)) for f in folders]
                print(f"{corruption}: errors {np.round(errors[corruption], 4).tolist()}", flush=True)
            results.append(imagenet_c(errors))
        elif protocol == "corruption":
            part = open_for_classifier(
                options.data,
                options.train_split,
                options.test_split,
                getattr(classifier, "num_classes", None),
                options.max_images,
                options.seed,
            )
            batches = plain_batches(part, image_size, options.batch_size, options.resize)
            results.append(
                corruption_robustness(
                    classifier, batches, IMAGENET_MEAN, IMAGENET_STD, seed=options.seed, progress=print
                )
            )
        else:
            logits, labels = imagenet_logits(classifier, options.data, options, image_size)
            results.append(imagenet_variant(logits, labels, protocol))
    rows = {options.name or short_name(options.classifier): results}
    suite.write_report(options.output, describe(options, image_size), rows)
    return rows


def imagenet_logits(
    classifier: keras.Model, folder: PathLike, options: argparse.Namespace, image_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Compute logits and ImageNet labels of a folder whose class folders are WordNet IDs.

    Args:
        classifier: Keras model from normalized images to logits.
        folder: Path of the images.
        options: Parsed options of the command.
        image_size: Tuple (height, width) in pixels.

    Returns:
        logits: Array (images, classes).
        labels: Integer array (images,) in [0, 999].
    """
    part = open_labeled(str(folder), options.test_split, options.max_images, options.seed)
    batches = plain_batches(part, image_size, options.batch_size, options.resize)
    logits, labels = predict_logits(classifier, batches, verbose=1)
    return logits, imagenet_classes(part.class_names)[labels]


def parse_image_size(options: argparse.Namespace, encoder: Any) -> tuple[int, int]:
    """Return the image size of `--image-size`, or that of the encoder if the option is left out.

    Args:
        options: Parsed options with `image_size`.
        encoder: Encoder, with or without the attribute `image_size`.

    Returns:
        A tuple (height, width) in pixels.

    Raises:
        ValueError: If neither the options nor the encoder have an image size.

    Example:
        >>> parse_image_size(argparse.Namespace(image_size=32), None)
        (32, 32)
    """
    size = options.image_size or getattr(encoder, "image_size", None)
    if size is None:
        raise ValueError("`--image-size` must be given for an encoder without `image_size`. Received: None.")
    return (size, size) if isinstance(size, numbers.Integral) else tuple(size)


def describe(options: argparse.Namespace, image_size: tuple[int, int]) -> dict[str, Any]:
    """Return the settings that are needed to reproduce a report.

    Args:
        options: Parsed options of the command.
        image_size: Tuple (height, width) in pixels.

    Returns:
        A dictionary of JSON types.
    """
    return {
        "command": vars(options) | {"output": str(options.output), "cache": str(options.cache)},
        "image_size": list(image_size),
        "transform": "bicubic antialiased resize, center crop, ImageNet normalization",
        "backend": keras.backend.backend(),
        "versions": {name: importlib.metadata.version(name) for name in ("keras", "numpy", "scikit-learn")},
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: List of strings. None for the command line of the process.

    Returns:
        The parsed options.

    Example:
        >>> parse(["--encoder", "runs/mine", "--data", "tfds:cifar10"]).protocols
        'knn,linear,few_shot,health'
    """
    parser = argparse.ArgumentParser(
        prog="keras-siamim evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", type=name_option, help=".keras file, SavedModel or run folder")
    parser.add_argument(
        "--classifier", type=name_option, help=".keras file of a fine-tuned classifier, for robustness protocols"
    )
    parser.add_argument(
        "--data",
        type=name_option,
        required=True,
        help="tfds:NAME, a directory prepared by TFDS, or a folder",
    )
    parser.add_argument("--train-split", type=name_option, default="train")
    parser.add_argument("--test-split", type=name_option, default="test")
    parser.add_argument(
        "--protocols",
        type=name_option,
        default="knn,linear,few_shot,health",
        help=f"comma-separated names: {', '.join((*suite.PROTOCOLS, AUGMENTED_PROBE, *PATCH_PROTOCOLS))}",
    )
    parser.add_argument("--pooling", choices=FEATURES, help="default: that of the paper's protocol")
    parser.add_argument(
        "--shots", type=name_option, default="1%,10%", help="few-shot: percentages of the labels, or labels per class"
    )
    parser.add_argument(
        "--shots-list", type=name_option, help="few-shot: file with the names of the labeled images of a folder"
    )
    parser.add_argument(
        "--penalty", type=number_option("(0, inf)"), default=0.1, help="few-shot: 0.1 for ViT-Base, 0.01 for ViT-Large"
    )
    parser.add_argument("--image-size", type=count_option, help="default: that of the encoder")
    parser.add_argument("--resize", type=count_option, help="image side before the center crop; default: size / 0.875")
    parser.add_argument("--batch-size", type=count_option, default=256)
    parser.add_argument("--max-images", type=count_option, help="use a random sample of each split")
    add_segmentation_options(parser)
    parser.add_argument("--seed", type=non_negative_option, default=0)
    parser.add_argument("--name", type=name_option, help="name in the table; default: that of the file or run")
    parser.add_argument("--no-baselines", action="store_true", help="leave out raw pixels and random initialization")
    parser.add_argument("--cache", type=path_option, default=Path("runs/feature_cache"))
    parser.add_argument("--output", type=path_option, default=Path("runs/evaluation"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the evaluation that the command line selects, and print its table and notes.

    Args:
        arguments: List of strings. Defaults to the command line of the process.

    Raises:
        ValueError: If options are invalid or contradictory, or the model or the images cannot be opened.
    """
    options = parse(arguments)
    protocols = options.protocols.split(",")
    known = (*suite.PROTOCOLS, AUGMENTED_PROBE, *PATCH_PROTOCOLS, *CLASSIFIER_PROTOCOLS)
    unknown = [name for name in protocols if name not in known]
    if unknown:
        raise ValueError(f"`--protocols` must be some of {', '.join(known)}. Received: {', '.join(unknown)}.")
    of_classifier = [name for name in protocols if name in CLASSIFIER_PROTOCOLS]
    if of_classifier and len(of_classifier) < len(protocols):
        # The two kinds read different data.
        raise ValueError(
            f"`--protocols` must be all for encoders or all for classifiers. Received: {options.protocols}."
        )
    if not of_classifier and not options.encoder:
        raise ValueError(f"`--encoder` must be given for {options.protocols}. Received: {options.encoder!r}.")
    rows = (evaluate_classifier if of_classifier else evaluate_encoder)(options, protocols)
    print("\n" + suite.markdown_table(rows))
    for name, results in rows.items():
        for result in results:
            for note in result.notes:
                print(f"{name}, {result.protocol}: {note}")
    print(f"\nreport: {options.output}/evaluation.json, {options.output}/evaluation.md")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"error: {error}")
