"""From a source to training batches, the same ones in every run with the same seed.

    examples in their epoch's order -> this worker's part -> decode -> cut views -> batch -> colour, masks -> prefetch

Order, views and masks are functions of (seed, epoch, image number): parallel maps keep the order, and a run can start
at any epoch and step without replaying what was before, except for reading past the encoded records.
"""

import functools

import tensorflow as tf

from keras_siamim import batch as batch_keys
from keras_siamim.data import colour, device, images, sources

# Above this many pixels a batch of whole images no longer fits the caches, and cutting image by image is faster.
EQUAL_SIZE_LIMIT = 128 * 128


def steps_per_epoch(source, batch_size, workers=1):
    """Whole global batches in an epoch; the images left over come in another place of the next one."""
    steps = source.size // (batch_size * workers)
    if not steps:
        raise ValueError(
            f"batch_size must be at most the number of images a worker has, {source.size // workers} of {source.name}; "
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
        workers: how many processes share the data; each takes every `workers`-th example of the common order.
        worker: this one's number, from 0.
        on_device: leave colours and blur, and the crops of small images of one size, to `device.RenderViews`.

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

    def one_epoch(epoch):
        examples = source.examples(seed, epoch, shuffle, shuffle_buffer).shard(workers, worker)
        skipped = tf.where(epoch == start_epoch, start_step * batch_size, 0)
        examples = examples.take(steps * batch_size).skip(tf.cast(skipped, tf.int64))
        return examples.map(lambda example: {**example, "epoch": epoch})

    epochs = tf.data.Dataset.range(start_epoch, tf.int64.max)
    examples = epochs.flat_map(one_epoch).map(decoded, num_parallel_calls=tf.data.AUTOTUNE)
    shape = source.image_shape
    if shape and shape[0] * shape[1] <= EQUAL_SIZE_LIMIT:
        examples = examples.map(lambda example: _of_shape(example, shape))
        draw = functools.partial(_draw_for_batch, views)
    else:
        examples = examples.map(lambda example: _cut(views, example), num_parallel_calls=tf.data.AUTOTUNE)
        draw = _keep_cut

    def finish(examples):
        raw = draw(examples)
        if sources.LABEL in examples:
            raw[batch_keys.LABEL] = examples[sources.LABEL]
        if masking is not None:
            ids = tf.numpy_function(
                lambda index, epoch: masking.visible_ids(seed, int(epoch[0]), index),
                [examples["index"], examples["epoch"]],
                tf.int32,
            )
            raw[batch_keys.VISIBLE_IDS] = tf.ensure_shape(ids, (batch_size, masking.num_visible))
        if on_device:
            return raw
        kept = {key: raw[key] for key in raw.keys() - {device.IMAGES, device.CUT, device.BOXES, device.NUMBERS}}
        return {**views.render(raw), **kept}

    batches = examples.batch(batch_size, drop_remainder=True)
    return batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def evaluation_batches(source, image_size, batch_size, resize=None):
    """Images as evaluations see them: no randomness, the order of the source, the last batch as small as it is.

    Args:
        source: what `sources.open_source` gives.
        image_size: `(height, width)`, or one int for squares.
        batch_size: images a batch.
        resize: `(height, width)` or one int that the image is made to cover before its middle is cut;
            `image_size / 0.875` if left out, 256 for 224.

    Returns:
        A `tf.data.Dataset` of dicts with `batch.VIEW_1`, `(batch, *image_size, 3)` float32, normalised, and
        `batch.LABEL` where there are labels.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if resize is None:
        resize = tuple(round(side / 0.875) for side in size)
    resize = (resize, resize) if isinstance(resize, int) else tuple(resize)
    if any(cover < side for cover, side in zip(resize, size, strict=True)):
        raise ValueError(f"resize must be at least image_size, {size}; received {resize}.")

    def prepare(example):
        example = decoded(example)
        pixels = images.resize_and_centre(example[sources.IMAGE], size, resize)
        result = {batch_keys.VIEW_1: (tf.cast(pixels, tf.float32) - colour.MEAN) / colour.STD}
        if sources.LABEL in example:
            result[batch_keys.LABEL] = example[sources.LABEL]
        return result

    examples = source.examples(0, 0, shuffle=False)
    return examples.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size).prefetch(tf.data.AUTOTUNE)


def decoded(example):
    """Decode an example's image if it is still encoded: `"image"` becomes `(height, width, 3)` uint8."""
    image = example[sources.IMAGE]
    return {**example, sources.IMAGE: images.decode(image)} if image.dtype == tf.string else example


def _of_shape(example, shape):
    return {**example, sources.IMAGE: tf.ensure_shape(example[sources.IMAGE], (*shape, 3))}


def _draw_for_batch(views, examples):
    # A raw batch of whole images, all of one size.
    pixels = examples[sources.IMAGE]
    height, width = (tf.fill(tf.shape(pixels)[:1], side) for side in pixels.shape[1:3])
    boxes, numbers = views.draw(examples["index"], examples["epoch"], height, width)
    return {device.IMAGES: pixels, device.BOXES: boxes, device.NUMBERS: numbers, **views.relate(boxes, width)}


def _cut(views, example):
    image = example[sources.IMAGE]
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    boxes, numbers = views.draw(example["index"], example["epoch"], height, width)
    kept = {key: value for key, value in example.items() if key != sources.IMAGE}
    return {**kept, device.CUT: views.cut(image, boxes), device.NUMBERS: numbers, **views.relate(boxes, width)}


def _keep_cut(examples):
    # A raw batch of what was cut from images of any size.
    return {key: examples[key] for key in examples.keys() & {device.CUT, device.NUMBERS, batch_keys.RELATIVE_AFFINE}}
