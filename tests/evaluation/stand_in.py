"""A small encoder and small labeled images that the tests of several protocols share."""

import keras
import numpy as np
from keras import ops
from PIL import Image


@keras.saving.register_keras_serializable(package="keras_siamim_tests")
class PatchMeans(keras.Model):
    """Tokens of 4x4 patches through one dense layer; the class token is their maximum."""

    def __init__(self, width=12, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.dense = keras.layers.Dense(width, activation="tanh")

    def build(self, input_shape):
        self.dense.build((None, None, 48))

    def call(self, images):
        batch, height, width, _ = images.shape
        patches = ops.reshape(images, (-1, height // 4, 4, width // 4, 4, 3))
        patches = ops.reshape(ops.transpose(patches, (0, 1, 3, 2, 4, 5)), (-1, height * width // 16, 48))
        tokens = self.dense(patches)
        return ops.concatenate([ops.max(tokens, axis=1, keepdims=True), tokens], axis=1)

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def make_encoder(seed=0):
    keras.utils.set_random_seed(seed)
    encoder = PatchMeans()
    encoder(np.zeros((1, 8, 8, 3), "float32"))
    return encoder


def make_images(images, classes=3, seed=0):
    """Noise whose brightness pattern depends on the class: learnable, not trivial."""
    patterns = np.random.default_rng(99).normal(size=(classes, 8, 8, 3))
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    pixels = patterns[labels] + 0.7 * random.normal(size=(images, 8, 8, 3))
    return pixels.astype("float32"), labels


def write_images(folder, **splits):
    """Write images of three classes as `folder/SPLIT/{a,b,c}/*.png`; each split is a pair (images, seed)."""
    for split, (count, seed) in splits.items():
        images, labels = make_images(count, seed=seed)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = folder / split / "abc"[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.clip(128 + 40 * image, 0, 255).astype("uint8")).save(place / f"{number}.png")


def write_label_maps(folder, **counts):
    """Write images whose bright lower part is class 1, as `folder/SPLIT/{images,masks}/*.png`."""
    random = np.random.default_rng(0)
    for split, count in counts.items():
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for number in range(count):
            labels = np.zeros((20, 24), "uint8")
            labels[random.integers(8, 13) :] = 1
            pixels = random.integers(0, 40, (20, 24, 3)) + 180 * labels[..., None]
            for kind, content in (("images", pixels), ("masks", labels)):
                Image.fromarray(content.astype("uint8")).save(folder / split / kind / f"{number}.png")


def batches_of(images, labels, size):
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, len(images), size)]
