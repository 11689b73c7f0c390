"""Batches of images with label maps: augmented crops for training, squashed images and whole images for evaluation.

Image and label map always get the same geometry: images are resized bilinearly or bicubically, label maps by nearest
neighbors, both with half-pixel centers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from keras_siamim.arguments import height_and_width, whole_number
from keras_siamim.data import random
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.error_handling import IMAGE, INDEX, decoded, fill_batch, plain
from keras_siamim.data.images import photometric, preprocessing
from keras_siamim.data.pipeline import prepared_batches, steps_per_epoch
from keras_siamim.data.sources.label_maps import IGNORED, LABEL_MAP, LabelMapSource
from keras_siamim.types import Size, Tensor

IMAGES, LABELS, KEY = "images", "labels", "key"
# Sides of the frame that an image is resized into: the longer one is four times the shorter one (2048 and 512).
LONG_BY_SHORT = 4
# Crops that are drawn at most, until no class takes more than this share of the labeled pixels.
MOST_CROPS, LARGEST_SHARE = 10, 0.75
# Uniform numbers per image: ratio, flip, rows and columns of the crops, photometric distortion.
_CROPS = 2
_DISTORTION = _CROPS + 2 * MOST_CROPS
_DRAWS = _DISTORTION + photometric.DRAWS


@dataclasses.dataclass(frozen=True)
class CropRecipe:
    """Augmentation for training a segmenter, with the defaults of mmsegmentation.

    Args:
        crop_size: int or (height, width) in pixels.
        short_side: int. Shorter side of an image at ratio 1. Defaults to the crop's shorter side.
        ratios: Tuple of two floats. Range of the random ratio. Defaults to (0.5, 2.0).
        largest_share: float in (0, 1]. Crops are drawn again, up to 10 times, while one class has this share of the
            labeled pixels or more. 1 for the first crop. Defaults to 0.75.
        distorted: bool. Whether colors are distorted. Defaults to True.

    Raises:
        ValueError: If a number is out of its range.
    """

    crop_size: Size
    short_side: int | None = None
    ratios: tuple[float, float] = (0.5, 2.0)
    largest_share: float = LARGEST_SHARE
    distorted: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.ratios[0] <= self.ratios[1]:
            raise ValueError(f"`ratios` must be two positive numbers in order. Received: {self.ratios}.")
        if not 0 < self.largest_share <= 1:
            raise ValueError(f"`largest_share` must be in (0, 1]. Received: {self.largest_share}.")
        height_and_width("crop_size", self.crop_size)
        whole_number("short_side", self.side)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the crop."""
        return height_and_width("crop_size", self.crop_size)

    @property
    def side(self) -> int:
        """Shorter side of an image at ratio 1."""
        return min(self.size) if self.short_side is None else self.short_side


def fitted_size(height: Tensor, width: Tensor, short_side: Tensor, long_side: Tensor) -> Tensor:
    """Return the size of an image that is resized to fit a frame, aspect kept.

    Args:
        height: Integer scalar. Height of the image.
        width: Integer scalar. Width of the image.
        short_side: Integer scalar. Shorter side of the frame.
        long_side: Integer scalar. Longer side of the frame.

    Returns:
        (2,) int32: height and width.

    Example:
        >>> fitted_size(480, 640, 256, 1024).numpy().tolist()
        [256, 341]
    """
    size = tf.cast(tf.stack([height, width]), tf.float64)
    factor = tf.minimum(
        tf.cast(long_side, tf.float64) / tf.reduce_max(size), tf.cast(short_side, tf.float64) / tf.reduce_min(size)
    )
    return tf.cast(tf.maximum(size * factor + 0.5, 1.0), tf.int32)


def resize_bilinear(images: Tensor, size: Tensor) -> Tensor:
    """Resize images bilinearly, without antialiasing: (..., height, width, 3) uint8 to (..., *size, 3) uint8."""
    resized = tf.image.resize(images, size, method="bilinear")
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)


def resized_to_fit(images: Tensor, short_side: int) -> Tensor:
    """Resize images so that their shorter side has a length and the longer one is at most four times as long.

    Args:
        images: (height, width, 3) or (batch, height, width, 3) uint8.
        short_side: int. Pixels of the shorter side.

    Returns:
        Images of another height and width, float32, normalized.

    Example:
        >>> resized_to_fit(np.zeros((48, 64, 3), "uint8"), 24).shape
        TensorShape([24, 32, 3])
    """
    shape = tf.shape(images)
    size = fitted_size(shape[-3], shape[-2], short_side, LONG_BY_SHORT * short_side)
    return preprocessing.normalize(resize_bilinear(images, size))


def resize_labels(label_map: Tensor, size: Tensor | tuple[int, int]) -> Tensor:
    """Resize a label map by nearest neighbors: (height, width) to `size`, of the same dtype."""
    return tf.image.resize(label_map[..., None], size, method="nearest")[..., 0]


def crop_example(image: Tensor, label_map: Tensor, uniforms: Tensor, recipe: CropRecipe) -> tuple[Tensor, Tensor]:
    """Resize, crop, flip and distort an image and its label map.

    Args:
        image: (height, width, 3) uint8.
        label_map: (height, width) uint8, 255 for pixels without a class.
        uniforms: (31,) float32 in [0, 1).
        recipe: `CropRecipe`.

    Returns:
        The image (*crop_size, 3) float32, normalized and padded with zeros right and below, and its label map
        (*crop_size) uint8, padded with 255.
    """
    low, high = recipe.ratios
    ratio = low + (high - low) * uniforms[0]
    short, long = (tf.cast(tf.floor(ratio * side), tf.int32) for side in (recipe.side, LONG_BY_SHORT * recipe.side))
    shape = tf.shape(image)
    size = fitted_size(shape[0], shape[1], tf.maximum(short, 1), tf.maximum(long, 1))
    label_map = resize_labels(label_map, size)
    top_left, crop = _choose_crop(label_map, uniforms[_CROPS:_DISTORTION], recipe)
    label_map = tf.slice(label_map, top_left, crop)
    # The image is resized as a whole: its pixels must not depend on the crop.
    image = tf.slice(resize_bilinear(image, size), [*tf.unstack(top_left), 0], [*tf.unstack(crop), 3])
    flipped = uniforms[1] < 0.5
    image = tf.cond(flipped, lambda: tf.reverse(image, [1]), lambda: image)
    label_map = tf.cond(flipped, lambda: tf.reverse(label_map, [1]), lambda: label_map)
    if recipe.distorted:
        image = photometric.distort(image, photometric.draw_distortion(uniforms[_DISTORTION:]))
    missing = recipe.size - crop
    padding = [[0, missing[0]], [0, missing[1]]]
    image = tf.pad(preprocessing.normalize(image), [*padding, [0, 0]])
    label_map = tf.pad(label_map, padding, constant_values=IGNORED)
    return tf.ensure_shape(image, (*recipe.size, 3)), tf.ensure_shape(label_map, recipe.size)


def _choose_crop(label_map: Tensor, uniforms: Tensor, recipe: CropRecipe) -> tuple[Tensor, Tensor]:
    # The first crop without a class that takes too large a share, else the last one.
    shape = tf.shape(label_map)
    crop = tf.minimum(shape, recipe.size)
    starts = tf.cast(shape - crop + 1, tf.float32)

    def start(number):
        found = tf.cast(tf.floor(uniforms[2 * number : 2 * number + 2] * starts), tf.int32)
        return tf.minimum(found, shape - crop)

    def is_refused(number):
        labels = tf.reshape(tf.slice(label_map, start(number), crop), [-1])
        counts = tf.math.bincount(tf.cast(labels, tf.int32), minlength=IGNORED + 1, maxlength=IGNORED + 1)[:IGNORED]
        largest, labeled = tf.reduce_max(counts), tf.reduce_sum(counts)
        share = tf.cast(largest, tf.float32) / tf.cast(tf.maximum(labeled, 1), tf.float32)
        return (tf.math.count_nonzero(counts, dtype=tf.int32) < 2) | (share >= recipe.largest_share)

    number = tf.constant(0)
    if recipe.largest_share < 1:
        (number,) = tf.while_loop(
            lambda number: tf.logical_and(number < MOST_CROPS - 1, is_refused(number)),
            lambda number: (number + 1,),
            (number,),
        )
    return start(number), crop


def label_map_training_batches(
    source: LabelMapSource,
    recipe: CropRecipe,
    batch_size: int,
    seed: int = 0,
    start_epoch: int = 0,
    start_step: int = 0,
    workers: int = 1,
    worker: int = 0,
    ledger: Ledger | None = None,
) -> tf.data.Dataset:
    """Create an infinite dataset of augmented crops; equal arguments give equal batches.

    Order and crops are functions of (seed, epoch, image index), so a run can start at any epoch and step.

    Args:
        source: `LabelMapSource`.
        recipe: `CropRecipe`.
        batch_size: int. Images per batch of this worker.
        seed: int. Seed of order and crops. Defaults to 0.
        start_epoch: int. First epoch. Defaults to 0.
        start_step: int. First step of that epoch. Defaults to 0.
        workers: int. Number of processes that share the data. Defaults to 1.
        worker: int in [0, workers). Index of this process. Defaults to 0.
        ledger: `Ledger` that lists unreadable images and stops at its limit; others take their places. Defaults to one
            without bad images.

    Returns:
        `tf.data.Dataset` of images (batch, *crop_size, 3) float32, normalized, and label maps (batch, *crop_size)
        uint8, 255 for pixels without a class.

    Raises:
        ValueError: If there is no complete batch.
    """
    images = source.images
    steps = steps_per_epoch(images, batch_size, workers)
    ledger = Ledger(limit=0) if ledger is None else ledger

    def one_epoch(epoch):
        entries = images.order(seed, epoch, True, workers=workers, worker=worker)
        skipped = tf.where(epoch == start_epoch, start_step * batch_size, 0)
        entries = entries.take(steps * batch_size).skip(tf.cast(skipped, tf.int64))
        # An image that takes the place of an unreadable one is cropped with the numbers of the original.
        return entries.map(lambda entry: {**entry, KEY: random.tf_stream_keys(seed, random.CROPS, epoch, entry[INDEX])})

    def load(entry):
        example = decoded(images.load({key: value for key, value in entry.items() if key != KEY}))
        uniforms = tf.ensure_shape(random.tf_uniforms(entry[KEY], _DRAWS), (_DRAWS,))
        image, label_map = crop_example(example[IMAGE], example[LABEL_MAP], uniforms, recipe)
        return {IMAGES: image, LABELS: label_map}

    def load_batch(entries):
        slots, rows = fill_batch(images, ledger, entries, load)
        complete = tf.debugging.assert_equal(tf.size(slots), batch_size, "images changed while they were read")
        with tf.control_dependencies([complete]):
            return tuple(tf.ensure_shape(rows[key], (batch_size, *rows[key].shape[1:])) for key in (IMAGES, LABELS))

    entries = tf.data.Dataset.range(start_epoch, tf.int64.max).flat_map(plain(one_epoch))
    batches = entries.batch(batch_size, drop_remainder=True)
    return batches.map(plain(load_batch), num_parallel_calls=2, deterministic=True).prefetch(tf.data.AUTOTUNE)


def squashed_label_maps(
    source: LabelMapSource, image_size: Size, batch_size: int, ledger: Ledger | None = None
) -> tf.data.Dataset:
    """Create a dataset of images and label maps of one size, in the order of the source, and complete.

    Aspects are not kept. Images are resized bicubically with antialiasing.

    Args:
        source: `LabelMapSource`.
        image_size: int or (height, width) in pixels.
        batch_size: int. Images per batch; the last batch may be smaller.
        ledger: `Ledger` of unreadable images, which are left out. Defaults to None: the first one is an error that
            names it.

    Returns:
        `tf.data.Dataset` of dictionaries of `"images"`, (batch, *image_size, 3) float32, normalized, and `"labels"`,
        (batch, *image_size) uint8, 255 for pixels without a class.
    """
    size = height_and_width("image_size", image_size)

    def prepare(entry):
        example = decoded(source.images.load(entry))
        pixels = preprocessing.resize(example[IMAGE][None], size)[0]
        labels = resize_labels(example[LABEL_MAP], size)
        return {
            IMAGES: preprocessing.normalize(tf.ensure_shape(pixels, (*size, 3))),
            LABELS: tf.ensure_shape(labels, size),
        }

    return prepared_batches(source.images, prepare, batch_size, ledger)


class WholeImages:
    """Iterable of whole images, resized with aspect kept, with label maps of the original size.

    Args:
        source: `LabelMapSource`.
        short_side: int. Pixels of the shorter side; the longer one is at most four times as long.
        limit: int. Number of images, evenly spaced over the source. Defaults to all.

    Yields:
        Tuples of an image (height, width, 3) float32, normalized, and its label map uint8.

    Raises:
        ValueError: If an image or label map can't be read. The message names it.
    """

    def __init__(self, source: LabelMapSource, short_side: int, limit: int | None = None) -> None:
        if short_side < 1:
            raise ValueError(f"`short_side` must be 1 or more. Received: {short_side}.")
        self.source = source
        self.short_side = short_side
        self.limit = limit

    def __len__(self) -> int:
        return min(self.source.size, self.limit or self.source.size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for image, label_map in self.originals():
            yield resized_to_fit(image, self.short_side).numpy(), label_map

    def originals(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield images (height, width, 3) uint8 as they are stored, upright, and their label maps."""
        images, ledger = self.source.images, Ledger(limit=0)

        def prepare(entry):
            example = decoded(images.load(entry))
            return {IMAGES: example[IMAGE], LABELS: example[LABEL_MAP]}

        chosen = np.linspace(0, self.source.size, len(self), endpoint=False).astype("int64")
        batches = prepared_batches(images, prepare, 1, ledger)
        with ledger.short_errors():
            for number, batch in enumerate(batches.as_numpy_iterator()):
                if number in chosen:
                    yield batch[IMAGES][0], batch[LABELS][0]
