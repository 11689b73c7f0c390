"""Loading of batches with unreadable images.

Batches are always full. The next readable image of the source, by index, replaces an unreadable one and is augmented
and masked with the random parameters of the original. The replacement depends on the source alone, so it is the same in
every epoch, for any number of workers, and after an interruption.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from keras_siamim.data.images import decoding
from keras_siamim.data.python_calls import numpy_function
from keras_siamim.types import ArrayLike, Tensor

if TYPE_CHECKING:
    from keras_siamim.data.bad_images import Ledger
    from keras_siamim.data.sources import Source

IMAGE, LABEL, INDEX = "image", "label", "index"
SLOT = "slot"
# AutoGraph would take three quarters of the time to build graphs, which have no branch or loop to rewrite.
plain = tf.autograph.experimental.do_not_convert
# Errors of the machine or its network, which say nothing about an image.
MACHINE_ERRORS = frozenset(
    {
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ESTALE, errno.ETIMEDOUT),
        *(errno.ECONNRESET, errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    }
)


def decoded(example: dict) -> dict:
    """Return an example with its image decoded to (height, width, 3) uint8."""
    image = example[IMAGE]
    return {**example, IMAGE: decoding.decode(image)} if image.dtype == tf.string else example


class Examples:
    """Base class of sources, which define `order` and `load`."""

    if TYPE_CHECKING:
        # Declarations alone: a source that wraps another one hands both on to it.
        order: Callable[..., tf.data.Dataset]
        load: Callable[[dict], dict]

    def holds(self, index: int) -> bool:
        """Return whether the source has an image of that index."""
        return True

    def load_all(self, entries: dict) -> dict:
        """Load many entries, a dictionary of tensors with a common first axis."""
        signature = tf.data.Dataset.from_tensor_slices(entries).map(plain(self.load)).element_spec
        return tf.map_fn(self.load, entries, fn_output_signature=signature)

    def examples(self, seed: int, epoch: int | Tensor, shuffle: bool, **options) -> tf.data.Dataset:
        """Return all loaded examples of an epoch in the order of `order`, with `"index"`, an int64 scalar."""
        entries = self.order(seed, epoch, shuffle, **options)
        return entries.map(plain(lambda entry: {**self.load(entry), INDEX: entry[INDEX]}), tf.data.AUTOTUNE)


def attempt(entries: dict, load: Callable[[dict], dict]) -> tuple[Tensor, dict]:
    """Load the entries of a batch that can be loaded.

    Args:
        entries: Dictionary of tensors with a common batch axis.
        load: Function from one entry to a dictionary of tensors. It may raise.

    Returns:
        slots: (loaded,) int32. Ascending positions in the batch of the loaded entries.
        rows: Dictionary of tensors (loaded, ...).
    """
    count = tf.shape(entries[INDEX])[0]
    elements = tf.data.Dataset.from_tensor_slices((tf.range(count), entries))
    loaded = elements.map(plain(lambda slot, entry: (slot, load(entry))), num_parallel_calls=tf.data.AUTOTUNE)
    loaded = loaded.ignore_errors()
    # An empty batch follows, for the case that nothing can be loaded.
    none = tf.nest.map_structure(lambda spec: _none_of(spec.shape, spec.dtype), loaded.element_spec)
    batches = loaded.batch(tf.cast(count, tf.int64)).concatenate(tf.data.Dataset.from_tensors(none))
    return batches.take(1).get_single_element()


def try_load_batch(entries: dict, load: Callable[[dict], dict]) -> tuple[Tensor, dict]:
    """Load all entries of a batch together: the result of `attempt` for all of them, or for none if one fails."""
    slots = tf.range(tf.shape(entries[INDEX])[0])
    loaded = tf.data.Dataset.from_tensors((slots, entries)).map(plain(lambda slots, entries: (slots, load(entries))))
    none = tf.nest.map_structure(lambda spec: _none_of(spec.shape[1:], spec.dtype), loaded.element_spec)
    found = loaded.ignore_errors().concatenate(tf.data.Dataset.from_tensors(none))
    return found.take(1).get_single_element()


def _none_of(shape, dtype):
    # An empty batch of a shape, with unknown sides as 0.
    return tf.zeros([0, *(side or 0 for side in shape)], dtype)


def fill_batch(
    source: Source,
    ledger: Ledger,
    entries: dict,
    load: Callable[[dict], dict],
    shape: tuple[int, int] | None = None,
    load_all: Callable[[dict], dict] | None = None,
) -> tuple[Tensor, dict]:
    """Load a batch and replace unreadable images.

    Args:
        source: Source of images.
        ledger: `Ledger` that lists the unreadable ones.
        entries: Batch of `source.order`. Additional keys keep their positions in the batch.
        load: Function from one entry to a dictionary of tensors. It may raise for readable images, too.
        shape: (height, width) that readable images must have. Defaults to None, any shape.
        load_all: `load` for many entries at once, tried first. Defaults to None.

    Returns:
        slots: (loaded,) int32. All positions of the batch, unless `load` raises for readable images.
        rows: Dictionary of tensors (loaded, ...).
    """
    size = tf.shape(entries[INDEX])[0]
    # Traced once for both attempts.
    signature = {key: tf.TensorSpec([None, *values.shape[1:]], values.dtype) for key, values in entries.items()}
    try_load = tf.function(lambda entries: attempt(entries, load), [signature], autograph=False)

    def replace_failures(slots, rows):
        missing = tf.sets.difference(tf.range(size)[None], slots[None]).values
        others = tf.nest.map_structure(lambda values: tf.gather(values, missing), entries)
        index = numpy_function(lambda index: replacements(source, ledger, index, shape), [others[INDEX]], tf.int64)
        index = tf.ensure_shape(index, (None,))
        more, their_rows = try_load({**others, **source.entry(index)})
        found = tf.concat([slots, tf.gather(missing, more)], 0)
        order = tf.argsort(found)
        both = tf.nest.map_structure(lambda *values: tf.gather(tf.concat(values, 0), order), rows, their_rows)
        return tf.gather(found, order), both

    def unless_complete(slots, rows, further):
        return tf.cond(tf.size(slots) == size, lambda: (slots, rows), further)

    def one_by_one():
        slots, rows = try_load(entries)
        return unless_complete(slots, rows, lambda: replace_failures(slots, rows))

    return one_by_one() if load_all is None else unless_complete(*try_load_batch(entries, load_all), one_by_one)


def replacements(
    source: Source, ledger: Ledger, indices: ArrayLike, shape: tuple[int, int] | None = None
) -> np.ndarray:
    """Return the index of the first readable image at or after each index.

    Args:
        source: Source of images.
        ledger: `Ledger` that lists the unreadable ones.
        indices: (images,) int. Indices of images.
        shape: (height, width) that readable images must have. Defaults to None, any shape.

    Returns:
        (images,) int64.

    Raises:
        TooManyBadImages: If more images are unreadable than the ledger allows.
        Exception: As `failure`.
    """
    found = []
    for index in map(int, np.asarray(indices)):
        while True:
            # A listed image is not added again: another process may have removed it from the list since.
            if ledger.reason(source, index) is not None:
                ledger.check_limit(source)
            elif (reason := ledger.failure(source, index, shape)) is not None:
                ledger.add(source, index, reason)
            else:
                break
            index = source.next_index(index)
        found.append(index)
    return np.array(found, np.int64)


def failure(source: Source, index: int, shape: tuple[int, int] | None = None) -> str | None:
    """Return why an image can't be used, or None if it can.

    Args:
        source: Source of images.
        index: int. Index of the image.
        shape: (height, width) that it must have. Defaults to None, any shape.

    Raises:
        Exception: For errors of the machine or its network, such as too little memory or too many open files.
    """
    with tf.device("CPU:0"):
        try:
            image = source.load(source.entry(tf.constant(index, tf.int64)))[IMAGE]
        except Exception as error:  # noqa: BLE001  no reader promises a kind of error
            if _is_of_the_machine(error):
                raise
            return decoding.reason_of(error)
        return decoding.refusal(image.numpy(), shape) if image.dtype == tf.string else None


def _is_of_the_machine(error):
    kinds = (tf.errors.ResourceExhaustedError, tf.errors.UnavailableError, tf.errors.DeadlineExceededError)
    if isinstance(error, (MemoryError, tf.errors.AbortedError, *kinds)):
        return True
    # TensorFlow reports some by their text alone.
    texts = map(os.strerror, MACHINE_ERRORS)
    return getattr(error, "errno", None) in MACHINE_ERRORS or any(text in str(error) for text in texts)
