"""Reading a batch of images of which some may be bad, without ever moving the others.

Every batch has its places, and every place is filled. If the image of a place can't be read, the next good image of the
source, in the source's own numbering, takes the place, with views and masks of the place's own. This depends on the
source alone: not on the epoch, the batch, the number of workers, nor on where a run was interrupted.
"""

import errno
import os

import numpy as np
import tensorflow as tf

from keras_siamim.data.images import decoding
from keras_siamim.data.python_calls import numpy_function

IMAGE, LABEL, INDEX = "image", "label", "index"
SLOT = "slot"
# Errors of the machine or its network: no image is bad because of them.
MACHINE_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ESTALE, errno.ETIMEDOUT)
MACHINE_ERRORS += (errno.ECONNRESET, errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH)


def decoded(example):
    """Decode an example's image if it is still encoded: `"image"` becomes `(height, width, 3)` uint8."""
    image = example[IMAGE]
    return {**example, IMAGE: decoding.decode(image)} if image.dtype == tf.string else example


class Examples:
    """What every source can give by its `order` and `load`."""

    def holds(self, index):
        """Return whether the image of that number is one of the source."""
        return True

    def load_all(self, entries):
        """`load` of many entries, a dict of tensors with a common first axis."""
        signature = tf.data.Dataset.from_tensor_slices(entries).map(self.load).element_spec
        return tf.map_fn(self.load, entries, fn_output_signature=signature)

    def examples(self, seed, epoch, shuffle, **options):
        """All examples of an epoch, read: `order` with what `load` gives and `"index"`, an int64 scalar."""
        entries = self.order(seed, epoch, shuffle, **options)
        return entries.map(lambda entry: {**self.load(entry), INDEX: entry[INDEX]}, tf.data.AUTOTUNE)


def attempt(entries, load):
    """Load every entry of a batch that can be loaded.

    Args:
        entries: dict of tensors with a common batch axis.
        load: function of one entry to a dict of tensors, or an error.

    Returns:
        slots: `(loaded,)` int32, the places in the batch of those that were loaded, ascending.
        rows: dict of tensors, `(loaded, ...)`.
    """
    count = tf.shape(entries[INDEX])[0]
    places = tf.data.Dataset.from_tensor_slices((tf.range(count), entries))
    loaded = places.map(lambda slot, entry: (slot, load(entry)), num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    # What is left if nothing can be loaded: a batch of none.
    none = tf.nest.map_structure(lambda spec: _none_of(spec.shape, spec.dtype), loaded.element_spec)
    batches = loaded.batch(tf.cast(count, tf.int64)).concatenate(tf.data.Dataset.from_tensors(none))
    return batches.take(1).get_single_element()


def try_load_batch(entries, load):
    """Load a batch as a whole: what `attempt` gives, of all entries or, if any can't be loaded, of none."""
    slots = tf.range(tf.shape(entries[INDEX])[0])
    loaded = tf.data.Dataset.from_tensors((slots, entries)).map(lambda slots, entries: (slots, load(entries)))
    none = tf.nest.map_structure(lambda spec: _none_of(spec.shape[1:], spec.dtype), loaded.element_spec)
    found = loaded.ignore_errors().concatenate(tf.data.Dataset.from_tensors(none))
    return found.take(1).get_single_element()


def _none_of(shape, dtype):
    # A batch of no tensors of a shape, whose unknown sides don't matter.
    return tf.zeros([0, *(side or 0 for side in shape)], dtype)


def fill_batch(source, ledger, entries, load, shape=None, load_all=None):
    """Load a batch, bad images replaced.

    Args:
        source: what `sources.open_source` gives.
        ledger: `bad_images.Ledger` for the bad ones.
        entries: a batch of what `source.order` gives, with further keys at will, which keep to their places.
        load: function of one entry to a dict of tensors; it may refuse images that are not bad.
        shape: `(height, width)` that an image must have not to be bad, or None.
        load_all: `load` of many entries at once, tried first if given.

    Returns:
        slots: `(loaded,)` int32, all places of the batch unless `load` refuses images that are not bad.
        rows: dict of tensors, `(loaded, ...)`.
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


def replacements(source, ledger, numbers, shape=None):
    """For each of some images its own number if it is not bad after all, else that of the next one that is not.

    Args:
        source: what `sources.open_source` gives.
        ledger: `bad_images.Ledger`, takes all bad ones that are met.
        numbers: ints, image numbers.
        shape: as `fill_batch` takes it.

    Returns:
        `(images,)` int64.

    Raises:
        TooManyBadImages: the ledger's limit is exceeded.
        Exception: as `failure`.
    """
    found = []
    for number in map(int, numbers):
        while True:
            # What is listed is not added again: another process may have taken it off the list since.
            if ledger.reason(source, number) is not None:
                ledger.check_limit(source)
            elif (reason := ledger.failure(source, number, shape)) is not None:
                ledger.add(source, number, reason)
            else:
                break
            number = source.next_index(number)
        found.append(number)
    return np.array(found, np.int64)


def failure(source, number, shape=None):
    """Why the image of that number is bad, unreadable or not of the shape; None if it is not.

    Raises:
        Exception: Errors of the machine or its network, such as lack of memory or too many open files.
    """
    with tf.device("CPU:0"):
        try:
            image = source.load(source.entry(tf.constant(number, tf.int64)))[IMAGE]
        except Exception as error:  # noqa: BLE001  no reader promises a kind of error
            if _is_of_the_machine(error):
                raise
            return decoding.reason_of(error)
        return decoding.refusal(image.numpy(), shape) if image.dtype == tf.string else None


def _is_of_the_machine(error):
    kinds = (tf.errors.ResourceExhaustedError, tf.errors.UnavailableError, tf.errors.DeadlineExceededError)
    if isinstance(error, (MemoryError, tf.errors.AbortedError, *kinds)):
        return True
    # TensorFlow passes some on by their text alone.
    texts = map(os.strerror, MACHINE_ERRORS)
    return getattr(error, "errno", None) in MACHINE_ERRORS or any(text in str(error) for text in texts)
