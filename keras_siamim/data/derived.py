"""Sources made of other sources: a random sample, and labels in another numbering."""

import dataclasses
import unicodedata

import numpy as np
import tensorflow as tf

from keras_siamim.data import draws
from keras_siamim.data.indexed import IndexedSource
from keras_siamim.data.loading import LABEL, Examples


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
        if isinstance(self.source, IndexedSource):
            sample = draws.permutation(self.seed, draws.ORDER, 0, self.source.size)[: self.size]
            places = tf.data.Dataset.range(self.size)
            if shuffle:
                permuted = tf.numpy_function(
                    lambda epoch: draws.permutation(seed, draws.ORDER, epoch, self.size), [epoch], tf.int64
                )
                places = tf.data.Dataset.from_tensor_slices(tf.ensure_shape(permuted, (self.size,)))
            numbers = tf.constant(sample, tf.int64)
            return places.shard(workers, worker).map(lambda place: self.source.entry(numbers[place]))
        found = self.source.order(self.seed, 0, True).take(self.size)
        if shuffle:
            key = draws.tf_stream_keys(seed, draws.ORDER, epoch, 0)
            found = found.shuffle(
                min(buffer, self.size), seed=tf.bitcast(key, tf.int64), reshuffle_each_iteration=False
            )
        return found.shard(workers, worker)

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
    if unknown := [name for name in theirs if name not in ours]:
        raise ValueError(
            f"The classes of {test.name} must be among those of {train.name}: {_listed(ours)}. "
            f"Received also: {_listed(unknown)}."
        )
    missing = tuple(name for name in ours if name not in theirs)
    if train.class_names == test.class_names:
        return test, missing
    return _Relabeled(test, tuple(train.class_names), tuple(np.int32(ours[name]) for name in theirs)), missing


def has_labels(source):
    """Return whether a source has labels; those of an unlabeled split, all below 0, are none."""
    if source.class_names == () and LABEL not in source.examples(0, 0, False).element_spec:
        return False
    first = source.order(0, 0, shuffle=False).take(1).map(lambda entry: source.load(entry).get(LABEL, 0))
    return all(int(label) >= 0 for label in first.ignore_errors().as_numpy_iterator())


def _composed(source):
    names = {unicodedata.normalize("NFC", name): number for number, name in enumerate(source.class_names)}
    if len(names) < len(source.class_names) or not names:
        raise ValueError(
            f"{source.name} must have classes of different names. Received: {_listed(source.class_names)}."
        )
    return names


def _listed(names):
    names = list(names)
    return ", ".join(names[:10]) + (f" and {len(names) - 10:,} more" if len(names) > 10 else "") or "none"
