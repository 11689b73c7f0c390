"""Fine-tune a pre-trained encoder on labels by the paper's recipe, and save the classifier.

    keras-siamim finetune --encoder RUN_OR_FILE --data tfds:cifar10 --epochs 100 --batch-size 1024

writes `classifier.keras`, `evaluation.json` and `evaluation.md` into the output folder. The defaults are ViT-Base's:
2.5e-4 x batch / 256, layer decay 0.65, drop path 0.1, RandAugment(9, 0.5), mixup 0.8, CutMix 1.0, label smoothing 0.1,
random erasing 0.25, 5 epochs of warm-up.
"""

import argparse
import sys
from pathlib import Path

import keras

from keras_siamim.cli.evaluate import parse_image_size
from keras_siamim.cli.labeled_batches import cropped_epochs, open_labeled_pair, plain_batches
from keras_siamim.data.augmentation import fine_tuning_batches
from keras_siamim.data.views import color
from keras_siamim.evaluation import suite
from keras_siamim.evaluation.encoders import load_encoder
from keras_siamim.evaluation.fine_tuning import fine_tune


def augmented_epochs(source, options, image_size):
    """Epochs of augmented images and soft targets."""

    def augmented(batches):
        pixels = batches.map(lambda images, labels: (images * color.STD + color.MEAN, labels))
        return fine_tuning_batches(pixels, len(source.class_names), seed=options.seed)

    return cropped_epochs(source, image_size, options.batch_size, options.seed, prepare=augmented)


def parse(arguments):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="keras-siamim finetune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", required=True, help=".keras file or folder of a run")
    parser.add_argument(
        "--data", required=True, help="tfds:NAME, a TFDS-prepared directory, or class-per-folder images"
    )
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--test-split", default="test")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--warmup-epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--base-learning-rate", type=float, default=2.5e-4, help="per 256 images")
    parser.add_argument("--layer-decay", type=float, default=0.65)
    parser.add_argument("--drop-path-rate", type=float, default=0.1)
    parser.add_argument("--image-size", type=int, help="default: what the encoder was built for")
    parser.add_argument("--resize", type=int, help="of test images before the center crop; default: size / 0.875")
    parser.add_argument("--max-images", type=int, help="of the test split, drawn by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/fine_tuning"))
    return parser.parse_args(arguments)


def main(arguments=None):
    """Parse, fine-tune, save, report."""
    options = parse(arguments)
    keras.utils.set_random_seed(options.seed)
    encoder = load_encoder(options.encoder)
    if not isinstance(encoder, keras.Model):
        raise ValueError(f"--encoder must be a Keras model to be fine-tuned; received {options.encoder}.")
    image_size = parse_image_size(options, encoder)
    source, held_out = open_labeled_pair(
        options.data, options.train_split, options.test_split, max_test=options.max_images, seed=options.seed
    )
    if not source.class_names:
        raise ValueError(f"{source.name} has no classes to fine-tune on.")
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
        verbose=1,
    )
    options.output.mkdir(parents=True, exist_ok=True)
    classifier.save(options.output / "classifier.keras")
    rows = {Path(options.encoder).stem: [result]}
    suite.write_report(options.output, {"command": vars(options) | {"output": str(options.output)}}, rows)
    print("\n" + suite.markdown_table(rows) + f"\n\nwritten to {options.output}")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"error: {error}")
