"""Judge an encoder by frozen, named protocols, beside raw pixels and its own random initialization.

    keras-siamim evaluate --encoder RUN_OR_FILE --data tfds:cifar10 --protocols knn,linear,few_shot,health

prints a table (accuracies in per cent) and writes `evaluation.json` and `evaluation.md`. Features are cached by
content, so an interrupted run goes on where it stopped; `lars_augmented`, the paper's linear probe on random crops,
needs many passes through the encoder. The encoder is a `.keras` file of any backend, a SavedModel, or
a run's folder. Robustness judges a fine-tuned classifier instead, `--classifier FILE --protocols corruption`:
corruption (on the fly, any data) or imagenet_a, imagenet_r, imagenet_sketch, imagenet_c (the published trees).
"""

import argparse
import importlib.metadata
import numbers
import sys
from pathlib import Path

import keras
import numpy as np

from keras_siamim.batch import IMAGENET_MEAN, IMAGENET_STD
from keras_siamim.cli.labeled_batches import (
    cropped_epochs,
    image_names,
    open_for_classifier,
    open_labeled,
    open_labeled_pair,
    plain_batches,
    second_views,
)
from keras_siamim.evaluation import suite
from keras_siamim.evaluation.baselines import RawPixels, random_initialized
from keras_siamim.evaluation.encoders import load_encoder
from keras_siamim.evaluation.features import FEATURES, extract_features
from keras_siamim.evaluation.few_shot import read_image_list
from keras_siamim.evaluation.linear_probe import linear_probe
from keras_siamim.evaluation.logits import predict_logits, top1
from keras_siamim.evaluation.robustness import (
    VARIANTS,
    corruption_robustness,
    imagenet_c,
    imagenet_c_folders,
    imagenet_classes,
    imagenet_variant,
)
from keras_siamim.presets import load_model

# The paper's probe, which sees augmented images and not the features of the others.
AUGMENTED_PROBE = "lars_augmented"
CLASSIFIER_PROTOCOLS = (*VARIANTS, "imagenet_c", "corruption")
# So many test images have a second view for the alignment.
ALIGNED_IMAGES = 2048


def evaluate_features(options, protocols):
    """Run protocols on frozen features; return the rows of the table."""
    encoder = load_encoder(options.encoder)
    image_size = parse_image_size(options, encoder)
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
    encoders, rows = {}, {}
    if not options.no_baselines:
        encoders["raw pixels"] = RawPixels()
        if isinstance(encoder, keras.Model):
            encoders["random initialization"] = random_initialized(encoder, (*image_size, 3), options.seed)
        else:
            print("No row of the random initialization: an exported model cannot be initialized anew.")
    encoders[options.name or Path(options.encoder).stem] = encoder
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
                    *features[:2],
                    pooling=options.pooling,
                    shots=shots,
                    paired=features[2] if features[2:] else None,
                    num_classes=num_classes,
                    seed=options.seed,
                    verbose=1,
                )
            suite.write_report(options.output, describe(options, image_size), rows)
    return rows


def augmented_probe(encoder, train, test, options, image_size):
    """The paper's linear probe on random crops and flips; a row of its own for encoders that Keras can run."""
    if not isinstance(encoder, keras.Model):
        print("No trained probe on augmented images: it needs an encoder that is a Keras model.")
        return []
    batch_size = suite.lars_batch_size(train.size)
    epochs = cropped_epochs(train, image_size, batch_size, options.seed)
    pooling = options.pooling or "mean"
    classes = len(train.class_names)
    return [linear_probe(epochs, test, classes, encoder, pooling, batch_size, seed=options.seed, verbose=2)]


def evaluate_classifier(options, protocols):
    """Run robustness protocols on a classifier; return the rows of the table."""
    if not options.classifier:
        raise ValueError(f"--classifier must name a fine-tuned classifier for {', '.join(protocols)}.")
    classifier = load_model(options.classifier)
    image_size = parse_image_size(options, getattr(classifier, "encoder", classifier))
    results = []
    for protocol in protocols:
        print(protocol, flush=True)
        if protocol == "imagenet_c":
            errors = {}
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
    rows = {options.name or Path(options.classifier).stem: results}
    suite.write_report(options.output, describe(options, image_size), rows)
    return rows


def imagenet_logits(classifier, folder, options, image_size):
    """Logits and labels 0...999 of a tree whose class folders are WordNet ids."""
    part = open_labeled(str(folder), options.test_split, options.max_images, options.seed)
    batches = plain_batches(part, image_size, options.batch_size, options.resize)
    logits, labels = predict_logits(classifier, batches, verbose=1)
    return logits, imagenet_classes(part.class_names)[labels]


def parse_image_size(options, encoder):
    """Image size (height, width) from the command line, else what the encoder was built for."""
    size = options.image_size or getattr(encoder, "image_size", None)
    if size is None:
        raise ValueError("--image-size must be given for an encoder that doesn't tell the size it was built for.")
    return (size, size) if isinstance(size, numbers.Integral) else tuple(size)


def describe(options, image_size):
    """What a reader of the numbers must know to repeat them."""
    return {
        "command": vars(options) | {"output": str(options.output), "cache": str(options.cache)},
        "image_size": list(image_size),
        "transform": "bicubic antialiased resize, center crop, ImageNet normalization",
        "backend": keras.backend.backend(),
        "versions": {name: importlib.metadata.version(name) for name in ("keras", "numpy", "scikit-learn")},
    }


def parse(arguments):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="keras-siamim evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", help=".keras file, SavedModel or folder of a run")
    parser.add_argument("--classifier", help=".keras file of a fine-tuned classifier, for robustness")
    parser.add_argument(
        "--data", required=True, help="tfds:NAME, a TFDS-prepared directory, or class-per-folder images"
    )
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--test-split", default="test")
    parser.add_argument(
        "--protocols",
        default="knn,linear,few_shot,health",
        help=f"some of {', '.join((*suite.PROTOCOLS, AUGMENTED_PROBE))}",
    )
    parser.add_argument("--pooling", choices=FEATURES, help="default: what the paper's protocol uses")
    parser.add_argument("--shots", default="1%,10%", help="few-shot: percentages, and numbers per class")
    parser.add_argument("--shots-list", help="few-shot: a file that names the labeled images of a folder")
    parser.add_argument("--penalty", type=float, default=0.1, help="few-shot: 0.1 for Base, 0.01 for Large")
    parser.add_argument("--image-size", type=int, help="default: what the encoder was built for")
    parser.add_argument("--resize", type=int, help="side to cover before the center crop; default: size / 0.875")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--max-images", type=int, help="of each split, drawn by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", help="of the row; default: the file's name")
    parser.add_argument("--no-baselines", action="store_true", help="leave out raw pixels and random initialization")
    parser.add_argument("--cache", type=Path, default=Path("runs/feature_cache"))
    parser.add_argument("--output", type=Path, default=Path("runs/evaluation"))
    return parser.parse_args(arguments)


def main(arguments=None):
    """Parse, evaluate, print the table and the notes."""
    options = parse(arguments)
    protocols = options.protocols.split(",")
    known = (*suite.PROTOCOLS, AUGMENTED_PROBE, *CLASSIFIER_PROTOCOLS)
    unknown = [name for name in protocols if name not in known]
    if unknown:
        raise ValueError(f"--protocols must be some of {', '.join(known)}; received {', '.join(unknown)}.")
    of_classifier = [name for name in protocols if name in CLASSIFIER_PROTOCOLS]
    if of_classifier and len(of_classifier) < len(protocols):
        raise ValueError("--protocols must be all of frozen features or all of a classifier, as their data differ.")
    if not of_classifier and not options.encoder:
        raise ValueError("--encoder must name what is to be judged.")
    rows = (evaluate_classifier if of_classifier else evaluate_features)(options, protocols)
    print("\n" + suite.markdown_table(rows))
    for name, results in rows.items():
        for result in results:
            for note in result.notes:
                print(f"{name}, {result.protocol}: {note}")
    print(f"\nwritten to {options.output}/evaluation.json and evaluation.md")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"error: {error}")
