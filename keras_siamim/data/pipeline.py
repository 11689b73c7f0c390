"""From a source to training batches, the same ones in every run with the same seed.

    an epoch's order -> this worker's part -> batch -> read, decode, cut views -> color, masks -> prefetch

Order, views and masks are functions of (seed, epoch, image number): parallel maps keep the order, and a run can start
at any epoch and step without replaying what was before, except for reading past the encoded records. Images that can't
be read are replaced (`keras_siamim.data.error_handling`), listed and counted (`keras_siamim.data.bad_images`).
"""

import numpy as np
import tensorflow as tf

from keras_siamim import batch as batch_keys
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.batch_loading import EPOCH, NUMBER, loader, rendered
from keras_siamim.data.error_handling import IMAGE, INDEX, LABEL, attempt, decoded
from keras_siamim.data.images import preprocessing
from keras_siamim.data.python_calls import numpy_function


def steps_per_epoch(source, batch_size, workers=1):
    """Whole global batches in an epoch; the images left over come in another place of the next one."""
    share = source.share(workers)
    steps = share // batch_size
    if not steps:
        raise ValueError(
            f"batch_size must be at most the number of images a worker has, {share} of {source.name}; "
            f"received {batch_size} on {workers} worker(s)."
        )
    return steps


def training_batches(
    source,
    views,
    masking=None,
    *,
    batch_size,
    seed=0,
    shuffle=True,
    shuffle_buffer=10_000,
    start_epoch=0,
    start_step=0,
    workers=1,
    worker=0,
    on_device=False,
    ledger=None,
):
    """Batches of views, masks and labels, epoch after epoch without end: give `fit` its `steps_per_epoch`.

    Args:
        source: what `sources.open_source` gives.
        views: `PairedViews`; its own seed decides the views.
        masking: `masking.Masking` for `batch.VISIBLE_IDS`, or None for no masks.
        batch_size: images a batch, of this worker.
        seed: int, of the order and the masks.
        shuffle: whether every epoch has an order of its own.
        shuffle_buffer: for sources of records, see `sources.RecordSource`; others are permuted as a whole.
        start_epoch: epoch to begin with, from 0.
        start_step: batch within it to begin with, from 0.
        workers: how many processes share the data: each takes every `workers`-th example of the common order, or has
            files of its own, see `sources.RecordSource.order`.
        worker: this one's number, from 0.
        on_device: leave colors and blur, and the crops of small images of one size if the source states it, to
            `device.RenderViews`.
        ledger: `bad_images.Ledger` that lists images that can't be read and stops at its limit; one in memory with the
            usual limit if left out.

    Returns:
        A `tf.data.Dataset` of dicts as `keras_siamim.batch` describes them, or as `device.RenderViews` takes them.
    """
    if not 0 <= worker < workers:
        raise ValueError(f"worker must be within 0...{workers - 1}, below workers; received {worker}.")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; received {batch_size}.")
    steps = steps_per_epoch(source, batch_size, workers)
    if not 0 <= start_step <= steps:
        raise ValueError(f"start_step must be within 0...{steps}, the steps of an epoch; received {start_step}.")

    ledger = Ledger() if ledger is None else ledger
    # Without automatic conversion of Python control flow, of which there is none, graphs are built in a quarter of the
    # time.
    plain = tf.autograph.experimental.do_not_convert

    def one_epoch(epoch):
        entries = source.order(seed, epoch, shuffle, shuffle_buffer, workers, worker)
        skipped = tf.where(epoch == start_epoch, start_step * batch_size, 0)
        entries = entries.take(steps * batch_size).skip(tf.cast(skipped, tf.int64))
        return entries.map(lambda entry: {**entry, NUMBER: entry[INDEX], EPOCH: epoch})

    def finish(raw):
        raw = {**raw}
        number, epoch = raw.pop(NUMBER), raw.pop(EPOCH)
        if masking is not None:
            ids = masking.visible_ids(seed, epoch[0], number)
            raw[batch_keys.VISIBLE_IDS] = tf.ensure_shape(ids, (batch_size, masking.num_visible))
        return raw if on_device else rendered(views, raw)

    entries = tf.data.Dataset.range(start_epoch, tf.int64.max).flat_map(plain(one_epoch))
    batches = entries.batch(batch_size, drop_remainder=True)
    # Reading a batch runs in parallel itself: two at a time keep all cores busy, and more would only take memory.
    load = loader(source, ledger, views, on_device)
    batches = batches.map(plain(load), num_parallel_calls=2, deterministic=True)
    return batches.map(plain(finish), num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def evaluation_batches(source, image_size, batch_size, resize=None, ledger=None):
    """Images as evaluations see them: no randomness, the order of the source, the last batch as small as it is.

    Args:
        source: what `sources.open_source` gives.
        image_size: `(height, width)`, or one int for squares.
        batch_size: images a batch.
        resize: `(height, width)` or one int that the image is made to cover before its center is cut out. Defaults to
            `image_size / 0.875`, 256 for 224, except that images of exactly `image_size` are taken whole.
        ledger: `bad_images.Ledger` for images that can't be read, which are left out then, so that the last batch is
            smaller. If left out, the first such image is an error that names it: no accuracy changes silently.

    Returns:
        A `tf.data.Dataset` of dicts with `batch.VIEW_1`, `(batch, *image_size, 3)` float32, normalized, and
        `batch.LABEL` where there are labels.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if resize is not None:
        resize = (resize, resize) if isinstance(resize, int) else tuple(resize)
    if resize is not None and any(cover < side for cover, side in zip(resize, size, strict=True)):
        raise ValueError(f"resize must be at least image_size, {size}; received {resize}.")
    ledger = Ledger(limit=0) if ledger is None else ledger

    def prepare(entry):
        example = decoded(source.load(entry))
        pixels = preprocessing.resize_and_center(example[IMAGE][None], size, resize)[0]
        result = {batch_keys.VIEW_1: preprocessing.normalize(pixels)}
        if LABEL in example:
            result[batch_keys.LABEL] = example[LABEL]
        return result

    def load(entries):
        slots, rows = attempt(entries, prepare)
        listed = tf.cond(
            tf.size(slots) == tf.size(entries[INDEX]),
            lambda: tf.constant(0, tf.int64),
            lambda: numpy_function(list_missing, [entries[INDEX], slots], tf.int64),
        )
        with tf.control_dependencies([listed]):
            return tf.nest.map_structure(tf.identity, rows)

    def list_missing(numbers, slots):
        for number in np.delete(numbers, slots):
            ledger.add(source, number, ledger.failure(source, number) or "could not be read at first")
        return np.int64(len(numbers) - len(slots))

    batches = source.order(0, 0, shuffle=False).batch(batch_size)
    batches = batches.map(tf.autograph.experimental.do_not_convert(load), num_parallel_calls=2, deterministic=True)
    some = batches.filter(lambda rows: tf.shape(rows[batch_keys.VIEW_1])[0] > 0)
    return some.rebatch(batch_size).prefetch(tf.data.AUTOTUNE)  # images that are left out make no batch smaller
