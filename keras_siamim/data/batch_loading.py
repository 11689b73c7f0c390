"""Two strategies for loading a batch: per batch (small images of one size) and per image (everything else).

Small images of one size are loaded uncropped, and all crops of a batch are made together, which is much faster. Other
images are cropped one by one. If a source has no known size, the size is guessed from a few headers. A batch that
contradicts the guess is loaded per image, with the same crop boxes (and one more rounding of pixels).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import tensorflow as tf

from keras_siamim.data.error_handling import IMAGE, INDEX, decoded, fill_batch
from keras_siamim.data.images import decoding
from keras_siamim.data.views import on_device_views
from keras_siamim.types import Batch, Tensor

if TYPE_CHECKING:
    from keras_siamim.data.bad_images import Ledger
    from keras_siamim.data.sources import Source
    from keras_siamim.data.views.paired_views import PairedViews

# With more pixels per image, a batch of uncropped images exceeds the CPU caches, and cropping per image is faster.
EQUAL_SIZE_LIMIT = 128 * 128
# Images whose headers are read for the guess.
GUESSED_FROM = 32
NUMBER, EPOCH = "number", "epoch"


def loader(source: Source, ledger: Ledger, views: PairedViews, on_device: bool) -> Callable[[dict], dict]:
    """Return the function that loads the batches of a source.

    Args:
        source: Source of images.
        ledger: `Ledger` of unreadable images.
        views: `PairedViews`.
        on_device: bool. Whether the pipeline yields raw batches, which must then always hold the same tensors.

    Returns:
        Function from a batch of entries of `source.order`, with `NUMBER` and `EPOCH`, to a raw batch.
    """
    stated = source.image_shape
    guessed = None if stated or on_device else guessed_shape(source)
    shape = stated or guessed
    small = shape is not None and shape[0] * shape[1] <= EQUAL_SIZE_LIMIT

    def whole(entries):
        one, many = (partial(read, source, shape) for read in (_read_of_shape, _read_all))
        return fill_batch(source, ledger, entries, one, stated, many)

    def cut(entries):
        slots, rows = fill_batch(source, ledger, entries, lambda entry: _cut(views, _read(source, entry)))
        return in_full(entries, slots, rows)

    def either(entries):
        # Both branches of `tf.cond` must return the same tensors: those of the other strategy are empty.
        slots, rows = whole(entries)
        count = len(views.recipes)
        no_cut = {on_device_views.CUT: tf.zeros([0, count, *views.image_size, 3], tf.uint8)}
        no_images = {
            on_device_views.IMAGES: tf.zeros([0, *shape, 3], tf.uint8),
            on_device_views.BOXES: tf.zeros([0, count, 5], tf.int32),
        }
        return tf.cond(
            tf.size(slots) == entries[INDEX].shape[0],
            lambda: {**_draw_for_batch(views, in_full(entries, slots, rows)), **no_cut},
            lambda: {**cut(entries), **no_images},
        )

    if not small:
        return cut
    return (lambda entries: _draw_for_batch(views, in_full(entries, *whole(entries)))) if stated else either


def in_full(entries: dict, slots: Tensor, rows: dict) -> dict:
    """Return the rows of a complete batch, with static shapes.

    Args:
        entries: Batch of entries.
        slots: (batch,) int32, from `error_handling.fill_batch`.
        rows: Dictionary of tensors (batch, ...), from `error_handling.fill_batch`.

    Raises:
        tf.errors.InvalidArgumentError: At run time, if a row is missing: a file changed while it was read.
    """
    size = entries[INDEX].shape[0]
    complete = tf.debugging.assert_equal(tf.size(slots), size, "images changed while they were read")
    with tf.control_dependencies([complete]):
        return {key: tf.ensure_shape(values, (size, *values.shape[1:])) for key, values in rows.items()}


def rendered(views: PairedViews, raw: dict) -> Batch:
    """Replace the raw images of a batch by views."""
    made_of = {
        key: raw[key]
        for key in raw.keys()
        & {on_device_views.IMAGES, on_device_views.CUT, on_device_views.BOXES, on_device_views.NUMBERS}
    }
    size = raw[on_device_views.NUMBERS].shape[0]

    def render(*left_out):
        return views.render(
            {
                key: tf.ensure_shape(made_of[key], (size, *made_of[key].shape[1:]))
                for key in made_of.keys() - {*left_out}
            }
        )

    if on_device_views.IMAGES in made_of and on_device_views.CUT in made_of:
        cut = tf.shape(made_of[on_device_views.CUT])[0] > 0
        made = tf.cond(
            cut, lambda: render(on_device_views.IMAGES, on_device_views.BOXES), lambda: render(on_device_views.CUT)
        )
    else:
        made = render()
    return {**made, **{key: raw[key] for key in raw.keys() - made_of.keys()}}


def guessed_shape(source: Source) -> tuple[int, int] | None:
    """Return (height, width) if a few images of a source all have that size, else None.

    A wrong guess costs time only: a batch with another size is loaded per image.
    """
    shapes = set()
    for entry in source.sample(GUESSED_FROM):
        try:
            shapes.add(decoding.shape_of(source.load(entry)[IMAGE].numpy()))
        except (tf.errors.OpError, OSError, ValueError):
            continue
    shapes.discard(None)
    return shapes.pop() if len(shapes) == 1 else None


def _read(source, entry):
    return {**decoded(source.load(entry)), NUMBER: entry[NUMBER], EPOCH: entry[EPOCH]}


def _read_of_shape(source, shape, entry):
    # An error for images of another shape.
    example = _read(source, entry)
    return {**example, IMAGE: tf.ensure_shape(example[IMAGE], (*shape, 3))}


def _read_all(source, shape, entries):
    # The same for many entries, much faster than one dataset element per entry.
    examples = source.load_all(entries)
    image = examples[IMAGE]
    image = (
        decoding.decode_equal(image, shape) if image.dtype == tf.string else tf.ensure_shape(image, (None, *shape, 3))
    )
    return {**examples, IMAGE: image, NUMBER: entries[NUMBER], EPOCH: entries[EPOCH]}


def _draw_for_batch(views, examples):
    # A raw batch of uncropped images of one size.
    kept = {key: value for key, value in examples.items() if key != IMAGE}
    pixels = examples[IMAGE]
    height, width = (tf.fill(tf.shape(pixels)[:1], side) for side in pixels.shape[1:3])
    boxes, numbers = views.draw(examples[NUMBER], examples[EPOCH], height, width)
    return {
        **kept,
        on_device_views.IMAGES: pixels,
        on_device_views.BOXES: boxes,
        on_device_views.NUMBERS: numbers,
        **views.relative_geometry(boxes, width),
    }


def _cut(views, example):
    kept = {key: value for key, value in example.items() if key != IMAGE}
    image = example[IMAGE]
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    boxes, numbers = views.draw(example[NUMBER], example[EPOCH], height, width)
    return {
        **kept,
        on_device_views.CUT: views.cut(image, boxes),
        on_device_views.NUMBERS: numbers,
        **views.relative_geometry(boxes, width),
    }
