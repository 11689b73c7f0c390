"""Batches of images with boxes for evaluation: every image squashed to one size, with its boxes."""

from __future__ import annotations

import tensorflow as tf

from keras_siamim import batch as batch_keys
from keras_siamim.arguments import height_and_width
from keras_siamim.batch import BOXES
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.error_handling import IMAGE, INDEX, decoded
from keras_siamim.data.images import preprocessing
from keras_siamim.data.pipeline import prepared_batches
from keras_siamim.data.sources.boxes import BoxSource

BOX_LABELS = "box_labels"
POSITION = "position"


def box_batches(
    source: BoxSource, image_size: int | tuple[int, int], batch_size: int, ledger: Ledger | None = None
) -> tf.data.Dataset:
    """Create a dataset of images and boxes for evaluation, in the order of the source, and complete.

    Images are resized to one size, bicubic with antialiasing. Their aspect is not kept, so no part of a box is lost.

    Args:
        source: `BoxSource`, from `open_boxes`.
        image_size: int or (height, width) in pixels.
        batch_size: int. Images per batch; the last batch may be smaller.
        ledger: `Ledger` of unreadable images, which are left out. Defaults to None: the first unreadable image is an
            error that names it.

    Returns:
        `tf.data.Dataset` of dictionaries:

        - `batch.VIEW_1`, (batch, height, width, 3) float32, normalized;
        - `"boxes"`, (batch, most, 4) float32: x1, y1, x2, y2 in pixels of the resized image, padded with zeros;
        - `"box_labels"`, (batch, most) int32, padded with -1;
        - `"position"`, (batch,) int64: positions of the images in `source.annotations`.

    Raises:
        ValueError: If `batch_size` or `image_size` is below 1.
    """
    size = height_and_width("image_size", image_size)
    boxes, labels = map(tf.constant, source.annotations.scaled(size).padded())

    def prepare(entry):
        pixels = preprocessing.resize(decoded(source.images.load(entry))[IMAGE][None], size)[0]
        position = source.positions(entry[INDEX])
        return {
            batch_keys.VIEW_1: preprocessing.normalize(tf.ensure_shape(pixels, (*size, 3))),
            BOXES: tf.gather(boxes, position),
            BOX_LABELS: tf.gather(labels, position),
            POSITION: position,
        }

    return prepared_batches(source.images, prepare, batch_size, ledger)
