"""From a source to training batches, the same ones in every run with the same seed.

    an epoch's order -> this worker's part -> batch -> read, decode, cut views -> colour, masks -> prefetch

Order, views and masks are functions of (seed, epoch, image number): parallel maps keep the order, and a run can start
at any epoch and step without replaying what was before, except for reading past the encoded records. Images that can't
be read are replaced (`keras_siamim.data.loading`), listed and counted (`keras_siamim.data.ledger`).
"""

import numpy as np
import tensorflow as tf

from keras_siamim import batch as batch_keys
from keras_siamim.data import colour, device, images
from keras_siamim.data.ledger import Ledger
from keras_siamim.data.loading import IMAGE, INDEX, LABEL, attempt, complete, failure

# Above this many pixels a batch of whole images no longer fits the caches, and cutting image by image is faster.
EQUAL_SIZE_LIMIT = 128 * 128
# So many images are looked at to guess whether all have one size.
GUESSED_FROM = 32
NUMBER, EPOCH = "number", "epoch"


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
        on_device: leave colours and blur, and the crops of small images of one size if the source states it, to
            `device.RenderViews`.
        ledger: `ledger.Ledger` that lists images that can't be read and stops at its limit; one in memory with the
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
            ids = tf.numpy_function(
                lambda number, epoch: masking.visible_ids(seed, int(epoch[0]), number), [number, epoch], tf.int32
            )
            raw[batch_keys.VISIBLE_IDS] = tf.ensure_shape(ids, (batch_size, masking.num_visible))
        return raw if on_device else _rendered(views, raw)

    entries = tf.data.Dataset.range(start_epoch, tf.int64.max).flat_map(plain(one_epoch))
    batches = entries.batch(batch_size, drop_remainder=True)
    # Reading a batch runs in parallel itself: two at a time keep all cores busy, and more would only take memory.
    load = _loader(source, ledger, views, on_device)
    batches = batches.map(plain(load), num_parallel_calls=2, deterministic=True)
    return batches.map(plain(finish), num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _loader(source, ledger, views, on_device):
    # Function of a batch of entries to a raw batch: of whole images where all have one small size, else of the views
    # cut from each.
    stated = source.image_shape
    guessed = None if stated or on_device else guessed_shape(source)
    shape = stated or guessed
    small = shape is not None and shape[0] * shape[1] <= EQUAL_SIZE_LIMIT

    def whole(entries):
        return complete(source, ledger, entries, lambda entry: _of_shape(_read(source, entry), shape), stated)

    def cut(entries):
        slots, rows = complete(source, ledger, entries, lambda entry: _cut(views, _read(source, entry)))
        return _in_full(entries, slots, rows)

    def either(entries):
        # Each road gives the tensors of both, those of the other one empty.
        slots, rows = whole(entries)
        count = len(views.recipes)
        no_cut = {device.CUT: tf.zeros([0, count, *views.image_size, 3], tf.uint8)}
        no_images = {device.IMAGES: tf.zeros([0, *shape, 3], tf.uint8), device.BOXES: tf.zeros([0, count, 5], tf.int32)}
        return tf.cond(
            tf.size(slots) == entries[INDEX].shape[0],
            lambda: {**_draw_for_batch(views, _in_full(entries, slots, rows)), **no_cut},
            lambda: {**cut(entries), **no_images},
        )

    if not small:
        return cut
    return (lambda entries: _draw_for_batch(views, _in_full(entries, *whole(entries)))) if stated else either


def _in_full(entries, slots, rows):
    # The rows of a batch, of static size. Some are missing only if a file changes while it is read.
    size = entries[INDEX].shape[0]
    complete_now = tf.debugging.assert_equal(tf.size(slots), size, "images changed while they were read")
    with tf.control_dependencies([complete_now]):
        return {key: tf.ensure_shape(values, (size, *values.shape[1:])) for key, values in rows.items()}


def _rendered(views, raw):
    # The batch with its views instead of what they are made from.
    made_of = {key: raw[key] for key in raw.keys() & {device.IMAGES, device.CUT, device.BOXES, device.NUMBERS}}
    size = raw[device.NUMBERS].shape[0]

    def render(*left_out):
        return views.render(
            {
                key: tf.ensure_shape(made_of[key], (size, *made_of[key].shape[1:]))
                for key in made_of.keys() - {*left_out}
            }
        )

    if device.IMAGES in made_of and device.CUT in made_of:
        cut = tf.shape(made_of[device.CUT])[0] > 0
        made = tf.cond(cut, lambda: render(device.IMAGES, device.BOXES), lambda: render(device.CUT))
    else:
        made = render()
    return {**made, **{key: raw[key] for key in raw.keys() - made_of.keys()}}


def guessed_shape(source):
    """Guess from the headers of a few images whether all of a source have one size.

    A wrong guess costs time, no image: a batch with another size in it takes the road for images of any size.

    Returns:
        `(height, width)`, or None.
    """
    shapes = set()
    for entry in source.sample(GUESSED_FROM):
        try:
            shapes.add(images.shape_of(source.load(entry)[IMAGE].numpy()))
        except (tf.errors.OpError, OSError, ValueError):
            continue
    shapes.discard(None)
    return shapes.pop() if len(shapes) == 1 else None


def evaluation_batches(source, image_size, batch_size, resize=None, ledger=None):
    """Images as evaluations see them: no randomness, the order of the source, the last batch as small as it is.

    Args:
        source: what `sources.open_source` gives.
        image_size: `(height, width)`, or one int for squares.
        batch_size: images a batch.
        resize: `(height, width)` or one int that the image is made to cover before its middle is cut;
            `image_size / 0.875` if left out, 256 for 224.
        ledger: `ledger.Ledger` for images that can't be read, which are left out then, so that some batches are
            smaller. If left out, the first such image is an error that names it: no accuracy changes silently.

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
    ledger = Ledger(limit=0) if ledger is None else ledger

    def prepare(entry):
        example = decoded(source.load(entry))
        pixels = images.resize_and_centre(example[IMAGE], size, resize)
        result = {batch_keys.VIEW_1: (tf.cast(pixels, tf.float32) - colour.MEAN) / colour.STD}
        if LABEL in example:
            result[batch_keys.LABEL] = example[LABEL]
        return result

    def load(entries):
        slots, rows = attempt(entries, prepare)
        listed = tf.cond(
            tf.size(slots) == tf.size(entries[INDEX]),
            lambda: tf.constant(0, tf.int64),
            lambda: tf.numpy_function(list_missing, [entries[INDEX], slots], tf.int64, stateful=True),
        )
        with tf.control_dependencies([listed]):
            return tf.nest.map_structure(tf.identity, rows)

    def list_missing(numbers, slots):
        for number in np.delete(numbers, slots):
            ledger.add(source, number, failure(source, number) or "could not be read at first")
        return np.int64(len(numbers) - len(slots))

    batches = source.order(0, 0, shuffle=False).batch(batch_size)
    batches = batches.map(tf.autograph.experimental.do_not_convert(load), num_parallel_calls=2, deterministic=True)
    some = batches.filter(lambda rows: tf.shape(rows[batch_keys.VIEW_1])[0] > 0)
    return some.prefetch(tf.data.AUTOTUNE)


def decoded(example):
    """Decode an example's image if it is still encoded: `"image"` becomes `(height, width, 3)` uint8."""
    image = example[IMAGE]
    return {**example, IMAGE: images.decode(image)} if image.dtype == tf.string else example


def _read(source, entry):
    return {**decoded(source.load(entry)), NUMBER: entry[NUMBER], EPOCH: entry[EPOCH]}


def _of_shape(example, shape):
    # Refuses images of another shape.
    return {**example, IMAGE: tf.ensure_shape(example[IMAGE], (*shape, 3))}


def _draw_for_batch(views, examples):
    # A raw batch of whole images, all of one size.
    kept = {key: value for key, value in examples.items() if key != IMAGE}
    pixels = examples[IMAGE]
    height, width = (tf.fill(tf.shape(pixels)[:1], side) for side in pixels.shape[1:3])
    boxes, numbers = views.draw(examples[NUMBER], examples[EPOCH], height, width)
    return {**kept, device.IMAGES: pixels, device.BOXES: boxes, device.NUMBERS: numbers, **views.relate(boxes, width)}


def _cut(views, example):
    kept = {key: value for key, value in example.items() if key != IMAGE}
    image = example[IMAGE]
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    boxes, numbers = views.draw(example[NUMBER], example[EPOCH], height, width)
    return {**kept, device.CUT: views.cut(image, boxes), device.NUMBERS: numbers, **views.relate(boxes, width)}
