"""Sources whose images can be read in any order: arrays, folders, what was read into memory."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_siamim.data import random
from keras_siamim.data.error_handling import IMAGE, INDEX, LABEL, Examples, attempt
from keras_siamim.data.images import decoding
from keras_siamim.data.python_calls import numpy_function


@dataclass(frozen=True)
class IndexedSource(Examples):
    """Images that can be read in any order.

    Args:
        name: for messages.
        size: number of images.
        read: function of an int64 scalar tensor that gives a dict with `"image"`, a scalar string of encoded bytes or
            `(height, width, 3)` uint8, and, where there are classes, `"label"`, an int32 scalar.
        class_names: names of the classes, empty without labels.
        image_shape: `(height, width)` if all images have it, else None.
        locate: function of an image's number that says where it lies, for messages; "image NUMBER" if left out.
        reads_many: whether `read` takes any number of numbers, `(images,)`, and gives as many examples at once.
        notes: what a user should know of how the images were found, one line each.
    """

    name: str
    size: int
    read: Callable
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None
    locate: Callable = "image {}".format
    reads_many: bool = False
    notes: tuple[str, ...] = ()

    def order(self, seed, epoch, shuffle, buffer=0, workers=1, worker=0):
        """Name the images of an epoch, shuffled as a whole (`buffer` is not needed), without reading them.

        Args:
            seed: int.
            epoch: int64 scalar, may be a tensor.
            shuffle: whether to permute; else in the order of their numbers.
            buffer: ignored.
            workers: how many share the epoch; each takes every `workers`-th image.
            worker: this one's number, from 0.

        Returns:
            A `tf.data.Dataset` of what `load` takes.
        """
        del buffer
        order = _permuted(self.size, seed, epoch) if shuffle else tf.data.Dataset.range(self.size)
        return order.shard(workers, worker).map(self.entry)

    def draw(self, size, seed):
        """Draw the numbers of random images: `(size,)` int64, in random order."""
        return random.permutation(seed, random.ORDER, 0, self.size)[:size]

    def order_of(self, numbers, seed, epoch, shuffle, buffer=0):
        """Name some images of an epoch, as `order` does all; `numbers` as `draw` gives them."""
        del buffer
        places = _permuted(len(numbers), seed, epoch) if shuffle else tf.data.Dataset.range(len(numbers))
        numbers = tf.constant(numbers, tf.int64)
        return places.map(lambda place: self.entry(numbers[place]))

    def entry(self, index):
        """What `load` takes to read the image of that number."""
        return {INDEX: index}

    def load(self, entry):
        """Read an image: the dict of `read`."""
        return self.read(entry[INDEX])

    def load_all(self, entries):
        """`load` of many entries, a dict of tensors with a common first axis."""
        return self.load(entries) if self.reads_many else super().load_all(entries)

    def sample(self, count):
        """About so many entries from all over the source, or all of a smaller one."""
        return [self.entry(index) for index in range(0, self.size, max(1, self.size // count))]

    def next_index(self, index):
        """Number of the image after this one; the first after the last."""
        return (index + 1) % self.size

    def share(self, workers):
        """How many images of an epoch every one of so many workers is sure to have."""
        return self.size // workers


def _permuted(size, seed, epoch):
    # The numbers below size, as an epoch's data set.
    permuted = numpy_function(lambda epoch: random.permutation(seed, random.ORDER, epoch, size), [epoch], tf.int64)
    return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(permuted, (size,)))


def columns_of(columns):
    """Function of one or many numbers that gives those rows of some tensors."""
    return lambda index: {key: tf.gather(values, index) for key, values in columns.items()}


def cached(source):
    """Read a source's encoded bytes into memory once: an `IndexedSource` with the same images, shuffled as a whole.

    Costs as much memory as the files have bytes. What can't be read keeps its place, without bytes.

    Args:
        source: what `open_source` gives.
    """
    batches = source.order(0, 0, shuffle=False).batch(256)
    batches = batches.map(lambda batch: (batch[INDEX], *attempt(batch, source.load)))
    numbers, columns = [], {}
    for batch, slots, rows in batches.as_numpy_iterator():
        for key, values in rows.items():
            blank = b"" if values.dtype == object else 0
            whole = np.full((len(batch), *values.shape[1:]), blank, values.dtype)
            whole[slots] = values
            columns.setdefault(key, []).append(whole)
        numbers.extend(batch)
    columns = {key: tf.constant(np.concatenate(values)) for key, values in columns.items()}
    return IndexedSource(
        source.name,
        len(numbers),
        columns_of(columns),
        source.class_names,
        source.image_shape,
        lambda index: source.locate(numbers[index]),
        reads_many=True,
    )


def array_source(pixels, labels=None, name="array", class_names=()):
    """Images of one size in memory.

    Args:
        pixels: `(images, height, width, 3)` or, of gray, `(images, height, width)`; uint8, or another dtype in one of
            the ranges of `decoding.as_bytes`, such as floats of [0, 1].
        labels: `(images,)` ints from 0, or None.
        name: for messages.
        class_names: names of the classes; their numbers if left out.

    Returns:
        An `IndexedSource`.
    """
    pixels = decoding.image_array(pixels)
    columns = {IMAGE: tf.constant(pixels)}
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != (len(pixels),) or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
            raise ValueError(
                f"labels must be {len(pixels)} ints from 0, one for each image; "
                f"received shape {labels.shape}, dtype {labels.dtype}."
            )
        columns[LABEL] = tf.constant(labels.astype("int32"))
        class_names = tuple(class_names) or tuple(str(k) for k in range(labels.max() + 1))
    return IndexedSource(name, len(pixels), columns_of(columns), tuple(class_names), pixels.shape[1:3], reads_many=True)
