"""Fine-tune a pre-trained encoder on labeled images with the paper's recipe, and save the classifier.

    keras-siamim finetune --encoder RUN_OR_FILE --data tfds:cifar10 --epochs 100 --batch-size 1024

Writes `classifier.keras`, `evaluation.json` and `evaluation.md` to the output folder. The defaults are those of
ViT-Base: learning rate 2.5e-4 x batch / 256, layer decay 0.65, drop path 0.1, RandAugment(9, 0.5), mixup 0.8, CutMix
1.0, label smoothing 0.1, random erasing 0.25, 5 epochs of warm-up.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_siamim.cli.evaluate import parse_image_size
from keras_siamim.cli.labeled_batches import Epochs, cropped_epochs, open_labeled_pair, plain_batches
from keras_siamim.cli.options import (
    count_option,
    name_option,
    non_negative_option,
    number_option,
    path_option,
    short_name,
)
from keras_siamim.data.augmentation import fine_tuning_batches
from keras_siamim.data.sources import Source
from keras_siamim.data.views import color
from keras_siamim.evaluation import suite
from keras_siamim.evaluation.fine_tuning import fine_tune
from keras_siamim.files import replace_atomically
from keras_siamim.presets import load_encoder


def augmented_epochs(source: Source, options: argparse.Namespace, image_size: tuple[int, int]) -> Epochs:
    """Return epochs of augmented images and soft targets.

    Args:
        source: Source of labeled images.
        options: Parsed options of the command.
        image_size: Tuple (height, width) in pixels.

    Returns:
        An endless data set of batches (images, targets), see `Epochs`.
    """

    def augmented(batches):
        pixels = batches.map(lambda images, labels: (images * color.STD + color.MEAN, labels))
        return fine_tuning_batches(pixels, len(source.class_names), seed=options.seed)

    return cropped_epochs(source, image_size, options.batch_size, options.seed, prepare=augmented)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: List of strings. None for the command line of the process.

    Returns:
        The parsed options.

    Example:
        >>> parse(["--encoder", "runs/mine", "--data", "tfds:cifar10"]).layer_decay
        0.65
    """
    parser = argparse.ArgumentParser(
        prog="keras-siamim finetune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", type=name_option, required=True, help=".keras file or run folder")
    parser.add_argument(
        "--data",
        type=name_option,
        required=True,
        help="tfds:NAME, a directory prepared by TFDS, or a folder of class folders",
    )
    parser.add_argument("--train-split", type=name_option, default="train")
    parser.add_argument("--test-split", type=name_option, default="test")
    parser.add_argument("--epochs", type=count_option, default=100)
    parser.add_argument("--warmup-epochs", type=non_negative_option, default=5)
    parser.add_argument("--batch-size", type=count_option, default=1024)
    parser.add_argument("--base-learning-rate", type=number_option("(0, inf)"), default=2.5e-4, help="per 256 images")
    parser.add_argument("--layer-decay", type=number_option("(0, 1]"), default=0.65)
    parser.add_argument("--drop-path-rate", type=number_option("[0, 1)"), default=0.1)
    parser.add_argument("--image-size", type=count_option, help="default: that of the encoder")
    parser.add_argument(
        "--resize", type=count_option, help="side of test images before the center crop; default: size / 0.875"
    )
    parser.add_argument("--max-images", type=count_option, help="evaluate on a random sample of the test split")
    parser.add_argument("--seed", type=non_negative_option, default=0)
    parser.add_argument("--output", type=path_option, default=Path("runs/fine_tuning"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fine-tune the encoder that the command line selects.

    Args:
        arguments: List of strings. Defaults to the command line of the process.

    Raises:
        ValueError: If the encoder or the images cannot be opened, or the images have no labels.
    """
    options = parse(arguments)
    encoder = load_encoder(options.encoder)
    if not isinstance(encoder, keras.Model):
        raise ValueError(f"`--encoder` must be a Keras model. Received: {options.encoder}.")
    image_size = parse_image_size(options, encoder)
    source, held_out = open_labeled_pair(
        options.data, options.train_split, options.test_split, max_test=options.max_images, seed=options.seed
    )
    if not source.class_names:
        raise ValueError(f"`--data` must be images with classes. Received: {source.name}, which has none.")
    train = augmented_epochs(source, options, image_size)
    test = plain_batches(held_out, image_size, options.batch_size, options.resize)
    classifier, result = fine_tune(
        encoder,
        train,
        test,
        len(source.class_names),
        options.batch_size,
        base_learning_rate=options.base_learning_rate,
        layer_decay=options.layer_decay,
        drop_path_rate=options.drop_path_rate,
        epochs=options.epochs,
        warmup_epochs=options.warmup_epochs,
        seed=options.seed,
        verbose=1,
    )
    options.output.mkdir(parents=True, exist_ok=True)
    with replace_atomically(options.output / "classifier.keras") as staging:
        classifier.save(staging)
    rows = {short_name(options.encoder): [result]}
    suite.write_report(options.output, {"command": vars(options) | {"output": str(options.output)}}, rows)
    print("\n" + suite.markdown_table(rows) + f"\n\nwritten to {options.output}")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"error: {error}")
