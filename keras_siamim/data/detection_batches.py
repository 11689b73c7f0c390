"""Batches of images with objects, for detectors (ViTDet, arXiv 2203.16527). Their schema is in `keras_siamim.batch`.

    order of an epoch, rare classes repeated -> shard of this worker -> flip, large-scale jitter, crop -> pad -> batch

Order and augmentation are functions of (seed, epoch, position in the epoch), as in `pipeline`. Epochs follow each other
without gaps: a batch may have images of two epochs, and no image is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from keras_siamim import batch as batch_keys
from keras_siamim.data import random
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.batch_loading import EPOCH, NUMBER, in_full
from keras_siamim.data.dense_augmentation import (
    boxes_in_window,
    crop_window,
    jittered_size,
    visible_objects,
)
from keras_siamim.data.detection_recipe import DetectionRecipe
from keras_siamim.data.error_handling import IMAGE, INDEX, decoded, fill_batch, plain
from keras_siamim.data.images import preprocessing, squares
from keras_siamim.data.instance_masks import boxes_of_masks, masks_in_window
from keras_siamim.data.pipeline import prepared_batches
from keras_siamim.data.python_calls import numpy_function
from keras_siamim.data.repeat_sampling import repeated
from keras_siamim.types import Tensor

if TYPE_CHECKING:
    from keras_siamim.data.sources import BoxSource


def detection_batches(
    source: BoxSource,
    recipe: DetectionRecipe,
    *,
    batch_size: int,
    seed: int = 0,
    start_step: int = 0,
    workers: int = 1,
    worker: int = 0,
    ledger: Ledger | None = None,
) -> tf.data.Dataset:
    """Create an infinite dataset of training batches.

    Args:
        source: `BoxSource` of `with_objects`.
        recipe: `DetectionRecipe`.
        batch_size: Integer. Images per batch of this worker.
        seed: Integer. Seed of order, repetition and augmentation. Defaults to 0.
        start_step: Integer. Number of batches to skip, without their work. Defaults to 0.
        workers: Integer. Number of processes. Each takes every `workers`-th image of the common order. Defaults to 1.
        worker: Integer in [0, workers). Index of this process. Defaults to 0.
        ledger: `Ledger` of unreadable images, which other images replace. Defaults to one in memory.

    Returns:
        `tf.data.Dataset` of dictionaries, see `keras_siamim.batch`. Equal arguments give equal batches.

    Raises:
        ValueError: If a number is out of its range, or `source` has crowd regions or images without objects.
    """
    found = source.annotations
    if found.crowd.any() or found.counts.min(initial=1) == 0:
        raise ValueError(f"`source` must be one of `with_objects`. Received: {source.name}, with other images.")
    for name, value, valid, rule in (
        ("batch_size", batch_size, batch_size >= 1, "1 or more"),
        ("start_step", start_step, start_step >= 0, "0 or more"),
        ("worker", worker, 0 <= worker < workers, f"in [0, {workers - 1}], below `workers`"),
    ):
        if not valid:
            raise ValueError(f"`{name}` must be {rule}. Received: {value}.")
    ledger = Ledger() if ledger is None else ledger
    entries = _entries(source, recipe, seed, start_step * batch_size * workers).shard(workers, worker)
    load = _loader(source, recipe, seed)
    ids = _int32_ids(source)

    def load_batch(entries):
        rows = in_full(entries, *fill_batch(source.images, ledger, entries, load))
        position = rows.pop(INDEX)
        return {
            **rows,
            batch_keys.IMAGES: squares.normalize_unpadded(rows[batch_keys.IMAGES], rows[batch_keys.SIZES]),
            batch_keys.ORIGINAL_SIZES: tf.gather(tf.constant(found.image_sizes), position),
            batch_keys.IMAGE_IDS: tf.gather(ids, position),
        }

    batches = entries.batch(batch_size, drop_remainder=True)
    batches = batches.map(plain(load_batch), 2, deterministic=True)
    return batches.prefetch(tf.data.AUTOTUNE)


def _entries(source: BoxSource, recipe: DetectionRecipe, seed: int, skipped: int) -> tf.data.Dataset:
    """Return the endless common order of all workers, after its first images."""
    factors = recipe.repeat_factors(source)
    epoch = 0
    while skipped >= (length := len(repeated(factors, seed, epoch))):
        skipped, epoch = skipped - length, epoch + 1
    first = epoch

    def order(epoch):
        uses = repeated(factors, seed, epoch)
        return uses[random.permutation(seed, random.ORDER, epoch, len(uses))]

    def one_epoch(epoch):
        indices = tf.ensure_shape(numpy_function(order, [epoch], tf.int64), (None,))
        uses = tf.data.Dataset.from_tensor_slices({INDEX: indices, NUMBER: tf.range(tf.size(indices, tf.int64))})
        uses = uses.skip(tf.where(epoch == first, tf.constant(skipped, tf.int64), 0))
        return uses.map(lambda entry: {**entry, EPOCH: epoch})

    return tf.data.Dataset.range(first, tf.int64.max).flat_map(plain(one_epoch))


def _loader(source: BoxSource, recipe: DetectionRecipe, seed: int) -> Callable[[dict], dict]:
    """Return the function from an entry to an example with a uint8 image."""
    found, side = source.annotations, recipe.image_size
    most = int(found.counts.max()) if recipe.max_objects is None else recipe.max_objects
    starts = np.cumsum([0, *found.counts])

    def draw(epoch, number, position):
        keys = random.stream_keys(seed, random.CROPS, epoch, number)
        flip, scale, offset = random.uniforms(keys, 3)[0].astype("float64")
        scale = recipe.scale[0] + scale * (recipe.scale[1] - recipe.scale[0])
        resized = jittered_size(*found.image_sizes[position], scale, side)
        return np.array([flip < recipe.flip_probability, *resized, *crop_window(*resized, offset, side)], "int32")

    def of_image(position, transform):
        rows = slice(starts[position], starts[position + 1])
        return rows, (found.image_sizes[position], bool(transform[0]), transform[1:3], transform[3:])

    def masks_of(position, transform):
        rows, change = of_image(position, transform)
        return masks_in_window(found.segmentations[rows], *change)

    def boxes_of(position, transform):
        rows, change = of_image(position, transform)
        return boxes_in_window(found.boxes[rows], *change)

    def load(entry):
        position = entry[INDEX]
        transform = numpy_function(draw, [entry[EPOCH], entry[NUMBER], position], tf.int32, stateful=False)
        transform = tf.ensure_shape(transform, (7,))
        image = decoded(source.images.load(entry))[IMAGE]
        image = tf.cond(transform[0] == 1, lambda: tf.reverse(image, [1]), lambda: tf.identity(image))
        image = preprocessing.resize(image[None], transform[1:3], squares.BILINEAR, transform[3:])[0]
        if recipe.masks:
            masks = numpy_function(masks_of, [position, transform], tf.uint8, stateful=False)
            masks = tf.ensure_shape(masks, (None, None, None))
            boxes = numpy_function(boxes_of_masks, [masks], tf.float32, stateful=False)
        else:
            boxes = numpy_function(boxes_of, [position, transform], tf.float32, stateful=False)
        boxes = tf.ensure_shape(boxes, (None, 4))
        chosen = numpy_function(lambda boxes: visible_objects(boxes, most), [boxes], tf.int64, stateful=False)
        chosen = tf.ensure_shape(chosen, (None,))
        labels = tf.gather(tf.constant(found.labels), tf.gather(tf.constant(starts, tf.int64), position) + chosen)
        example = {
            INDEX: position,
            batch_keys.IMAGES: squares.pad(image, (side, side, 3)),
            batch_keys.SIZES: transform[5:],
            batch_keys.BOXES: squares.pad(tf.gather(boxes, chosen), (most, 4)),
            batch_keys.CLASSES: squares.pad(labels, (most,), -1),
        }
        if recipe.masks:
            example[batch_keys.MASKS] = squares.pad(tf.gather(masks, chosen), (most, side, side))
        return example

    return load


def detection_test_batches(
    source: BoxSource, image_size: int, batch_size: int, ledger: Ledger | None = None
) -> tf.data.Dataset:
    """Create a dataset of images for detection, in the order of the source, and complete.

    The longer side of each image becomes `image_size`, see `squares.fit_square`.

    Args:
        source: `BoxSource`, from `open_boxes`.
        image_size: Integer. Side of the square images in pixels.
        batch_size: Integer. Images per batch; the last batch may be smaller.
        ledger: `Ledger` of unreadable images, which are left out. Defaults to None: the first unreadable image is an
            error that names it.

    Returns:
        `tf.data.Dataset` of dictionaries with `IMAGES`, `SIZES`, `ORIGINAL_SIZES` and `IMAGE_IDS`, see
        `keras_siamim.batch`.

    Raises:
        ValueError: If a number is below 1.
    """
    for name, value in (("image_size", image_size), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"`{name}` must be 1 or more. Received: {value}.")
    stored, ids = tf.constant(source.annotations.image_sizes), _int32_ids(source)

    def prepare(entry):
        position = source.positions(entry[INDEX])
        image, size = squares.fit_square(decoded(source.images.load(entry))[IMAGE], image_size)
        return {
            batch_keys.IMAGES: image,
            batch_keys.SIZES: size,
            batch_keys.ORIGINAL_SIZES: tf.gather(stored, position),
            batch_keys.IMAGE_IDS: tf.gather(ids, position),
        }

    return prepared_batches(source.images, prepare, batch_size, ledger)


def stored_images(source: BoxSource) -> Iterator[np.ndarray]:
    """Yield the images of a source as they are stored, upright: (height, width, 3) uint8.

    Args:
        source: `BoxSource`.

    Raises:
        TooManyBadImages: If an image is unreadable.
    """
    ledger = Ledger(limit=0)

    def prepare(entry):
        return {batch_keys.IMAGES: decoded(source.images.load(entry))[IMAGE]}

    with ledger.short_errors():
        for batch in prepared_batches(source.images, prepare, 1, ledger).as_numpy_iterator():
            yield batch[batch_keys.IMAGES][0]


def _int32_ids(source: BoxSource) -> Tensor:
    limit = np.iinfo("int32").max
    if max(map(abs, source.image_ids)) > limit:
        raise ValueError(f"`source` must have image ids up to {limit}. Received: {max(map(abs, source.image_ids))}.")
    return tf.constant(source.image_ids, tf.int32)
