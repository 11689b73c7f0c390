"""Sources made of other sources: a random sample, and labels in another numbering."""

import dataclasses
import functools
import unicodedata

import numpy as np
import tensorflow as tf

from keras_siamim.data.error_handling import LABEL, Examples
from keras_siamim.files import listed

# Images whose labels tell whether a split has any.
FIRST = 64


@dataclasses.dataclass(frozen=True)
class _Derived(Examples):
    # What is not redefined is as in the source.
    source: object

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.source, name)


@dataclasses.dataclass(frozen=True)
class _Sample(_Derived):
    size: int
    seed: int

    def order(self, seed, epoch, shuffle, buffer=10_000, workers=1, worker=0):
        """The images of the sample, in an order of their own for every seed and epoch if `shuffle`."""
        return self.source.order_of(self.numbers, seed, epoch, shuffle, buffer).shard(workers, worker)

    @functools.cached_property
    def numbers(self):
        """Numbers of the images in the source: `(size,)` int64."""
        return self.source.draw(self.size, self.seed)

    def holds(self, index):
        """Return whether the image of that number is one of the sample."""
        return index in self._held

    @functools.cached_property
    def _held(self):
        return frozenset(self.numbers.tolist())

    def load_all(self, entries):
        """`load` of many entries."""
        return self.source.load_all(entries)

    def share(self, workers):
        """How many of the images every one of so many workers is sure to have."""
        return self.size // workers


def sample_of(source, size, seed=0):
    """Return a random part of a source; all of a source that has no more images.

    Args:
        source: What `open_source` gives.
        size: Number of images, 1 or more.
        seed: int. The same seed gives the same images.

    Raises:
        ValueError: If `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"`size` must be 1 or more. Received: {size}.")
    return source if size >= source.size else _Sample(source, size, seed)


def with_gaps(source, removed):
    """Return a source with the numbering that it had before some of its images were removed.

    A removed image is bad, as it was: the next good one takes its place in every batch, so that a run that goes on sees
    the batches that it would have seen.

    Args:
        source: An `IndexedSource` that lacks the images.
        removed: Numbers that the removed images had.
    """
    removed = sorted(set(removed))
    size = source.size + len(removed)
    there = np.setdiff1d(np.arange(size), removed)
    new = np.full(size, -1)
    new[there] = np.arange(source.size)
    numbers = tf.constant(new, tf.int64)

    def read(index):
        number = tf.gather(numbers, index)
        with tf.control_dependencies([tf.debugging.assert_non_negative(number, "removed")]):
            return source.read(tf.identity(number))

    return dataclasses.replace(
        source,
        size=size,
        read=read,
        locate=lambda index: source.locate(new[index]) if new[index] >= 0 else f"image {index}, removed",
        reads_many=False,
    )


@dataclasses.dataclass(frozen=True)
class _Relabeled(_Derived):
    class_names: tuple
    numbers: tuple

    def load(self, entry):
        """Read an image, its label in the new numbering; a negative label stays as it is."""
        return self._renumbered(self.source.load(entry))

    def load_all(self, entries):
        """`load` of many entries."""
        return self._renumbered(self.source.load_all(entries))

    def _renumbered(self, example):
        label = example[LABEL]
        return {**example, LABEL: tf.where(label < 0, label, tf.gather(self.numbers, tf.maximum(label, 0)))}


def match_classes(train, test):
    """Return the test split with its labels in the numbering of the training split, matched by the classes' names.

    Names are compared in Unicode's composed form. Classes without test images are allowed.

    Args:
        train: Source with labels.
        test: Source with labels. Two sources without names of classes are taken to number them alike.

    Returns:
        A source, and the names of the classes that have no test images.

    Raises:
        ValueError: If the test split has no labels, or a class that the training split lacks, by name.
    """
    for source in (train, test):
        if not has_labels(source):
            raise ValueError(f"{source.name} must have labels. Received: images without labels.")
    if not train.class_names and not test.class_names:
        return test, ()
    ours = _composed(train)
    theirs = _composed(test)
    missing = tuple(name for name in ours if name not in theirs)
    if unknown := [name for name in theirs if name not in ours]:
        alone = f"; only in {train.name}: {listed(missing)}" if missing else ""
        raise ValueError(
            f"The classes of {test.name} must be among those of {train.name}. Received: only in {test.name}: "
            f"{listed(unknown)}{alone}."
        )
    if train.class_names == test.class_names:
        return test, missing
    return _Relabeled(test, tuple(train.class_names), tuple(np.int32(ours[name]) for name in theirs)), missing


def has_labels(source):
    """Return whether a source has labels; those of an unlabeled split, all below 0 in its first images, are none."""
    if LABEL not in source.examples(0, 0, False).element_spec:
        return False
    first = source.order(0, 0, shuffle=False).take(FIRST).map(lambda entry: source.load(entry)[LABEL])
    labels = list(first.ignore_errors().as_numpy_iterator())
    return not labels or max(labels) >= 0


def _composed(source):
    names = {unicodedata.normalize("NFC", name): number for number, name in enumerate(source.class_names)}
    if len(names) < len(source.class_names) or not names:
        raise ValueError(
            f"{source.name} must have classes of different names. Received: {listed(source.class_names) or 'none'}."
        )
    return names
