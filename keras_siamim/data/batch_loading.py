"""Two roads from encoded images to a raw batch, which becomes views in one go.

Small images of one size are handed on whole, and all crops of a batch are made together, which is much faster. From
others the views are cut image by image. If a source does not state a size, it is guessed from a few headers; a batch
that proves the guess wrong takes the other road, where the same boxes are cut (and pixels rounded once more).
"""

from functools import partial

import tensorflow as tf

from keras_siamim.data.error_handling import IMAGE, INDEX, decoded, fill_batch
from keras_siamim.data.images import decoding
from keras_siamim.data.views import on_device_views

# Above this many pixels a batch of whole images no longer fits the caches, and cutting image by image is faster.
EQUAL_SIZE_LIMIT = 128 * 128
# So many images are looked at to guess whether all have one size.
GUESSED_FROM = 32
NUMBER, EPOCH = "number", "epoch"


def loader(source, ledger, views, on_device):
    """Choose how the batches of a source are read.

    Args:
        source: what `sources.open_source` gives.
        ledger: `bad_images.Ledger`.
        views: `PairedViews`.
        on_device: whether the raw batch is handed out, so that it must hold the same tensors always.

    Returns:
        Function of a batch of entries, those of `source.order` with `NUMBER` and `EPOCH`, to a raw batch with these.
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
        return _in_full(entries, slots, rows)

    def either(entries):
        # Each road gives the tensors of both, those of the other one empty.
        slots, rows = whole(entries)
        count = len(views.recipes)
        no_cut = {on_device_views.CUT: tf.zeros([0, count, *views.image_size, 3], tf.uint8)}
        no_images = {
            on_device_views.IMAGES: tf.zeros([0, *shape, 3], tf.uint8),
            on_device_views.BOXES: tf.zeros([0, count, 5], tf.int32),
        }
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


def rendered(views, raw):
    """Put the views of a raw batch in the place of what they are made from."""
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


def guessed_shape(source):
    """Guess from the headers of a few images whether all of a source have one size.

    A wrong guess costs time, no image: a batch with another size in it takes the road for images of any size.

    Returns:
        `(height, width)`, or None.
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
    # Refuses images of another shape.
    example = _read(source, entry)
    return {**example, IMAGE: tf.ensure_shape(example[IMAGE], (*shape, 3))}


def _read_all(source, shape, entries):
    # The same for many entries, much faster than each as an element of a data set.
    examples = source.load_all(entries)
    image = examples[IMAGE]
    image = (
        decoding.decode_equal(image, shape) if image.dtype == tf.string else tf.ensure_shape(image, (None, *shape, 3))
    )
    return {**examples, IMAGE: image, NUMBER: entries[NUMBER], EPOCH: entries[EPOCH]}


def _draw_for_batch(views, examples):
    # A raw batch of whole images, all of one size.
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
