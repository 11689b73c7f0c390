"""Sources with random access to their images: arrays, folders, and caches in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from keras_siamim.data import random
from keras_siamim.data.error_handling import IMAGE, INDEX, LABEL, Examples, attempt, plain
from keras_siamim.data.images import decoding
from keras_siamim.data.python_calls import numpy_function
from keras_siamim.types import ArrayLike, Tensor

if TYPE_CHECKING:
    from keras_siamim.data.sources.derived import Source


@dataclass(frozen=True)
class IndexedSource(Examples):
    """Source with random access to its images.

    Args:
        name: String. Name in messages.
        size: Integer. Number of images.
        read: Function of an index, an int64 scalar tensor. It returns a dict with `"image"`, a scalar string of encoded
            bytes or `(height, width, 3)` uint8, and in labeled sources `"label"`, an int32 scalar.
        class_names: Tuple of strings. Names of the classes, empty without labels. Defaults to `()`.
        image_shape: `(height, width)` if all images have one size, else None. Defaults to None.
        locate: Function from an index to the image's location in messages. Defaults to `"image INDEX"`.
        reads_many: Bool. True if `read` also takes many indices, `(images,)`, and returns a batch. Defaults to False.
        notes: Tuple of strings, one line each. Remarks for the user on how the images were found. Defaults to `()`.

    Example:
    >>> import tensorflow as tf
    >>> source = IndexedSource("gray", 2, lambda index: {"image": tf.fill([8, 8, 3], tf.cast(index, "uint8"))})
    >>> [int(example["image"][0, 0, 0]) for example in source.examples(0, 0, shuffle=False)]
    [0, 1]
    """

    name: str
    size: int
    read: Callable[[Tensor], dict[str, Tensor]]
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None
    locate: Callable[[int], str] = "image {}".format
    reads_many: bool = False
    notes: tuple[str, ...] = ()

    def order(
        self,
        seed: int,
        epoch: int | Tensor,
        shuffle: bool,
        buffer: int = 0,
        workers: int = 1,
        worker: int = 0,
    ) -> tf.data.Dataset:
        """Return the entries of one epoch, without reading the images.

        Args:
            seed: Integer. Seed of the permutation.
            epoch: int64 scalar or tensor. Each epoch has another permutation.
            shuffle: Bool. Permute all images; otherwise they come in the order of their indices.
            buffer: Ignored; a full permutation needs no buffer. Defaults to 0.
            workers: Integer. Number of workers that share the epoch. Each takes every `workers`-th image. Defaults to
                1.
            worker: Integer in [0, `workers`). Index of this worker. Defaults to 0.

        Returns:
            A `tf.data.Dataset` of entries for `load`.
        """
        del buffer
        order = _permuted(self.size, seed, epoch) if shuffle else tf.data.Dataset.range(self.size)
        return order.shard(workers, worker).map(self.entry)

    def draw(self, size: int, seed: int) -> np.ndarray:
        """Draw the indices of random images: `(size,)` int64, in random order."""
        return random.permutation(seed, random.ORDER, 0, self.size)[:size]

    def order_of(
        self, indices: np.ndarray, seed: int, epoch: int | Tensor, shuffle: bool, buffer: int = 0
    ) -> tf.data.Dataset:
        """Return the entries of some images for one epoch, as `order` does for all.

        Args:
            indices: `(images,)` int64, from `draw`.
            seed: See `order`.
            epoch: See `order`.
            shuffle: See `order`.
            buffer: Ignored. Defaults to 0.

        Returns:
            A `tf.data.Dataset` of entries for `load`.
        """
        del buffer
        positions = _permuted(len(indices), seed, epoch) if shuffle else tf.data.Dataset.range(len(indices))
        chosen = tf.constant(indices, tf.int64)
        return positions.map(lambda position: self.entry(chosen[position]))

    def entry(self, index: int | Tensor) -> dict[str, Tensor]:
        """Return the entry with which `load` reads the image of an index."""
        return {INDEX: index}

    def load(self, entry: dict[str, Tensor]) -> dict[str, Tensor]:
        """Read an image and return the dict of `read`."""
        return self.read(entry[INDEX])

    def load_all(self, entries: dict[str, Tensor]) -> dict[str, Tensor]:
        """Read a batch of entries, a dict of tensors with a common first axis."""
        return self.load(entries) if self.reads_many else super().load_all(entries)

    def sample(self, count: int) -> list[dict[str, Tensor]]:
        """Return at least `count` entries, evenly spaced over the source, or all entries of a smaller source."""
        return [self.entry(index) for index in range(0, self.size, max(1, self.size // count))]

    def next_index(self, index: int) -> int:
        """Return the index of the next image; the first image follows the last."""
        return (index + 1) % self.size

    def share(self, workers: int) -> int:
        """Return the number of images per epoch that each worker has at least."""
        return self.size // workers


def _permuted(size: int, seed: int, epoch: int | Tensor) -> tf.data.Dataset:
    # A permutation of the integers in [0, size).
    permuted = numpy_function(lambda epoch: random.permutation(seed, random.ORDER, epoch, size), [epoch], tf.int64)
    return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(permuted, (size,)))


def columns_of(columns: dict[str, Tensor]) -> Callable[[Tensor], dict[str, Tensor]]:
    """Return a function from one or many indices to those rows of some tensors.

    Example:
    >>> read = columns_of({"label": tf.constant([5, 6, 7])})
    >>> read([2, 0])["label"].numpy().tolist()
    [7, 5]
    """
    return lambda index: {key: tf.gather(values, index) for key, values in columns.items()}


def cached(source: Source) -> IndexedSource:
    """Read all encoded bytes of a source into memory.

    The memory used equals the size of the files. An unreadable image keeps its slot, with empty bytes.

    Args:
        source: Source, from `open_source`.

    Returns:
        An `IndexedSource` with the same images.

    Example:
    >>> cached(array_source(np.zeros((4, 8, 8), "uint8"))).size
    4
    """
    batches = source.order(0, 0, shuffle=False).batch(256)
    batches = batches.map(plain(lambda batch: (batch[INDEX], *attempt(batch, source.load))))
    indices: list[int] = []
    columns: dict[str, list[np.ndarray]] = {}
    for batch, slots, rows in batches.as_numpy_iterator():
        for key, values in rows.items():
            blank = b"" if values.dtype == object else 0
            padded = np.full((len(batch), *values.shape[1:]), blank, values.dtype)
            padded[slots] = values
            columns.setdefault(key, []).append(padded)
        indices.extend(batch)
    return IndexedSource(
        source.name,
        len(indices),
        columns_of({key: tf.constant(np.concatenate(values)) for key, values in columns.items()}),
        source.class_names,
        source.image_shape,
        lambda index: source.locate(indices[index]),
        reads_many=True,
    )


def array_source(
    pixels: ArrayLike, labels: ArrayLike | None = None, name: str = "array", class_names: Sequence[str] = ()
) -> IndexedSource:
    """Return a source of images of one size in memory.

    Args:
        pixels: `(images, height, width, 3)` or gray `(images, height, width)`. uint8, or another dtype in one of the
            ranges of `decoding.as_bytes`, such as floats in [0, 1].
        labels: `(images,)` integers from 0, or None. Defaults to None.
        name: String. Name in messages. Defaults to `"array"`.
        class_names: Strings, one per class, in the order of the labels. Defaults to the labels as strings.

    Returns:
        An `IndexedSource`.

    Raises:
        ValueError: If `pixels` or `labels` has another shape, dtype or range, or a label has no name in `class_names`.

    Example:
    >>> source = array_source(np.zeros((2, 8, 8), "uint8"), labels=[0, 1])
    >>> source.size, source.image_shape, source.class_names
    (2, (8, 8), ('0', '1'))
    """
    pixels = decoding.image_array(pixels)
    columns = {IMAGE: tf.constant(pixels)}
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != (len(pixels),) or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
            raise ValueError(
                f"`labels` must be {len(pixels)} integers from 0, one per image. "
                f"Received: shape {labels.shape}, dtype {labels.dtype}."
            )
        columns[LABEL] = tf.constant(labels.astype("int32"))
        class_names = tuple(class_names) or tuple(str(k) for k in range(labels.max() + 1))
        if labels.max() >= len(class_names):
            raise ValueError(
                f"`class_names` must name every class, {labels.max() + 1} or more. Received: {len(class_names)} names."
            )
    elif class_names:
        raise ValueError(f"`class_names` must be empty without `labels`. Received: {tuple(class_names)}.")
    return IndexedSource(name, len(pixels), columns_of(columns), tuple(class_names), pixels.shape[1:3], reads_many=True)
