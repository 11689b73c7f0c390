"""Fine-tune a pre-trained encoder on labels by the paper's recipe, and save the classifier.

    python -m training.finetune --encoder RUN_OR_FILE --data tfds:cifar10 --epochs 100 --batch-size 1024

writes `classifier.keras`, `evaluation.json` and `evaluation.md` into the output folder. The defaults are ViT-Base's:
2.5e-4 x batch / 256, layer decay 0.65, drop path 0.1, RandAugment(9, 0.5), mixup 0.8, CutMix 1.0, label smoothing 0.1,
random erasing 0.25, 5 epochs of warm-up.
"""

import argparse
import sys
from pathlib import Path

import keras

from keras_siamim import batch as batch_keys
from keras_siamim.data import colour
from keras_siamim.data.augment import fine_tuning_batches
from keras_siamim.data.pipeline import steps_per_epoch, training_batches
from keras_siamim.data.sources import open_source
from keras_siamim.data.view_recipe import ViewRecipe
from keras_siamim.data.views import PairedViews
from keras_siamim.evaluation import suite
from keras_siamim.evaluation.encoders import load_encoder
from keras_siamim.evaluation.fine_tuning import fine_tune
from training.evaluate import open_batches, parse_image_size


def augmented_batches(options, image_size):
    """One epoch after another of augmented images and soft targets, with the length of one epoch."""
    source = open_source(options.data, options.train_split)
    if not source.class_names:
        raise ValueError(f"{source.name} has no classes to fine-tune on.")
    views = PairedViews(image_size, ViewRecipe.crop_and_flip(area=(0.08, 1.0)), None, seed=options.seed)
    batches = training_batches(source, views, batch_size=options.batch_size, seed=options.seed)

    def pixels(batch):
        return batch[batch_keys.VIEW_1] * colour.STD + colour.MEAN, batch[batch_keys.LABEL]

    steps = steps_per_epoch(source, options.batch_size)
    batches = fine_tuning_batches(batches.map(pixels), len(source.class_names), seed=options.seed)
    return Epochs(batches, steps), len(source.class_names)


class Epochs(keras.utils.PyDataset):
    """An endless stream of batches as a data set that knows how many make an epoch."""

    def __init__(self, batches, steps):
        super().__init__()
        self.batches, self.steps = batches.as_numpy_iterator(), steps

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        return next(self.batches)


def parse(arguments):
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    parser.add_argument("--resize", type=int, help="of test images before the centre crop; default: size / 0.875")
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
    train, num_classes = augmented_batches(options, image_size)
    test, _ = open_batches(options.data, options.test_split, options, image_size)
    classifier, result = fine_tune(
        encoder,
        train,
        test,
        num_classes,
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
