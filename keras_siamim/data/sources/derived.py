"""Sources derived from other sources: random samples, gaps of removed images, and relabeled classes."""

import dataclasses
import functools
import unicodedata
from collections.abc import Iterable
from typing import Any, TypeAlias, cast

import numpy as np
import tensorflow as tf

from keras_siamim.data.error_handling import LABEL, Examples
from keras_siamim.data.sources.indexed import IndexedSource
from keras_siamim.data.sources.records import RecordSource
from keras_siamim.files import listed
from keras_siamim.types import Tensor

# Derived sources are no subclasses of these, but delegate to a source of one of these classes.
Source: TypeAlias = IndexedSource | RecordSource

# Number of labels that are read to find out if a split is labeled.
LABELS_READ = 64


@dataclasses.dataclass(frozen=True)
class _Derived(Examples):
    # Attributes that a subclass does not define are those of the source.
    source: Any

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.source, name)


@dataclasses.dataclass(frozen=True)
class _Sample(_Derived):
    size: int
    seed: int

    def order(
        self,
        seed: int,
        epoch: int | Tensor,
        shuffle: bool,
        buffer: int = 10_000,
        workers: int = 1,
        worker: int = 0,
    ) -> tf.data.Dataset:
        """Return the entries of the sample for one epoch, in an order that `seed` and `epoch` determine."""
        return self.source.order_of(self.indices, seed, epoch, shuffle, buffer).shard(workers, worker)

    @functools.cached_property
    def indices(self) -> np.ndarray:
        """Indices of the images in the source: `(size,)` int64."""
        return self.source.draw(self.size, self.seed)

    def holds(self, index: int) -> bool:
        """Return True if the sample has the image with that index."""
        return index in self._index_set

    @functools.cached_property
    def _index_set(self) -> frozenset[int]:
        return frozenset(self.indices.tolist())

    def load_all(self, entries: dict[str, Tensor]) -> dict[str, Tensor]:
        """Read a batch of entries as the source does."""
        return self.source.load_all(entries)

    def share(self, workers: int) -> int:
        """Return the number of images per epoch that each worker has at least."""
        return self.size // workers


def sample_of(source: Source, size: int, seed: int = 0) -> Source:
    """Return a random sample of a source, or the source itself if it has no more than `size` images.

    Args:
        source: Source, from `open_source`.
        size: Integer, at least 1. Number of images.
        seed: Integer. The same seed gives the same images. Defaults to 0.

    Returns:
        A source.

    Raises:
        ValueError: If `size` is below 1.

    Example:
    >>> from keras_siamim.data.sources import array_source
    >>> sample_of(array_source(np.zeros((9, 8, 8), "uint8")), 4).size
    4
    """
    if size < 1:
        raise ValueError(f"`size` must be 1 or more. Received: {size}.")
    return source if size >= source.size else cast(Source, _Sample(source, size, seed))


def with_gaps(source: IndexedSource, removed: Iterable[int]) -> IndexedSource:
    """Return a source with the indices that it had before some of its images were removed.

    A removed image counts as bad, so the next readable image replaces it. A resumed run therefore gets the batches that
    it would have had before.

    Args:
        source: `IndexedSource` without the removed images.
        removed: Integers. Indices that the removed images had.

    Returns:
        An `IndexedSource`.

    Example:
    >>> from keras_siamim.data.sources import array_source
    >>> source = with_gaps(array_source(np.zeros((3, 8, 8), "uint8")), [1])
    >>> source.size, source.locate(1), source.locate(2)
    (4, 'image 1, removed', 'image 1')
    """
    removed = sorted(set(removed))
    size = source.size + len(removed)
    remaining = np.setdiff1d(np.arange(size), removed)
    current = np.full(size, -1)
    current[remaining] = np.arange(source.size)
    current_indices = tf.constant(current, tf.int64)

    def read(index: Tensor) -> dict[str, Tensor]:
        found = tf.gather(current_indices, index)
        with tf.control_dependencies([tf.debugging.assert_non_negative(found, "removed")]):
            return source.read(tf.identity(found))

    def locate(index: int) -> str:
        return source.locate(current[index]) if current[index] >= 0 else f"image {index}, removed"

    return dataclasses.replace(source, size=size, read=read, locate=locate, reads_many=False)


@dataclasses.dataclass(frozen=True)
class _Relabeled(_Derived):
    class_names: tuple[str, ...]
    # The new label of each label of the source.
    new_labels: tuple[np.int32, ...]

    def load(self, entry: dict[str, Tensor]) -> dict[str, Tensor]:
        """Read an image with its new label; a negative label stays unchanged."""
        return self._relabel(self.source.load(entry))

    def load_all(self, entries: dict[str, Tensor]) -> dict[str, Tensor]:
        """Read a batch of entries as `load` does."""
        return self._relabel(self.source.load_all(entries))

    def _relabel(self, example: dict[str, Tensor]) -> dict[str, Tensor]:
        label = example[LABEL]
        return {**example, LABEL: tf.where(label < 0, label, tf.gather(self.new_labels, tf.maximum(label, 0)))}


def match_classes(train: Source, test: Source) -> tuple[Source, tuple[str, ...]]:
    """Return the test split with the labels of the training split, matched by class name.

    Names are compared in Unicode's composed form. Classes without test images are allowed.

    Args:
        train: Source with labels.
        test: Source with labels. If both sources lack class names, their labels are assumed to match.

    Returns:
        A source, and the names of the classes that have no test images.

    Raises:
        ValueError: If a split has no labels or ambiguous class names, or if the training split lacks a class of the
            test split.

    Example:
    >>> from keras_siamim.data.sources import array_source
    >>> pixels = np.zeros((2, 8, 8), "uint8")
    >>> train = array_source(pixels, [0, 1], class_names=("ant", "bee"))
    >>> test = array_source(pixels, [0, 0], class_names=("bee",))
    >>> match_classes(train, test)[1]
    ('ant',)
    """
    for name, source in (("train", train), ("test", test)):
        if not has_labels(source):
            raise ValueError(f"`{name}` must have labels. Received: {source.name}, without labels.")
    if not train.class_names and not test.class_names:
        return test, ()
    train_labels = _labels_by_name("train", train)
    test_labels = _labels_by_name("test", test)
    missing = tuple(name for name in train_labels if name not in test_labels)
    if unknown := [name for name in test_labels if name not in train_labels]:
        only_in_train = f"; only in {train.name}: {listed(missing)}" if missing else ""
        raise ValueError(
            f"`test` must have classes among those of {train.name}. Received: only in {test.name}: {listed(unknown)}"
            f"{only_in_train}."
        )
    if train.class_names == test.class_names:
        return test, missing
    new_labels = tuple(np.int32(train_labels[name]) for name in test_labels)
    return cast(Source, _Relabeled(test, tuple(train.class_names), new_labels)), missing


def has_labels(source: Source) -> bool:
    """Return True if a source has labels.

    A split is unlabeled if the labels of its first images are all negative.

    Example:
    >>> from keras_siamim.data.sources import array_source
    >>> has_labels(array_source(np.zeros((2, 8, 8), "uint8"), labels=[0, 1]))
    True
    """
    if LABEL not in source.examples(0, 0, False).element_spec:
        return False
    first = source.order(0, 0, shuffle=False).take(LABELS_READ).map(lambda entry: source.load(entry)[LABEL])
    labels = list(first.ignore_errors().as_numpy_iterator())
    return not labels or bool(max(labels) >= 0)


def _labels_by_name(argument: str, source: Source) -> dict[str, int]:
    names = {unicodedata.normalize("NFC", name): label for label, name in enumerate(source.class_names)}
    if len(names) < len(source.class_names) or not names:
        raise ValueError(
            f"`{argument}` must have classes of different names. Received: {source.name} with "
            f"{listed(source.class_names) or 'none'}."
        )
    return names
