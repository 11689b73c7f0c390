"""Masks of view 1: block-wise (BEiT, arXiv 2106.08254, algorithm 1) or at random (MAE).

The same number of patches is masked in every image, so that the visible ones fit a tensor of constant shape. Masks are
a function of (seed, epoch, image index): TensorFlow operations for a whole batch, which call no Python.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from keras_siamim.arguments import whole_number
from keras_siamim.data import random
from keras_siamim.types import ArrayLike, Tensor

# A rectangle is given up after so many rejected ones in a row.
TRIES = 10
# Tries per iteration of the loop: random numbers for several tries cost little more than for one.
TRIES_PER_ITERATION = 4
MODES = ("block", "random", "none")
# Logarithms of the lowest and the highest ratio of a rectangle's height to its width.
LOG_ASPECTS = np.log(0.3), -np.log(0.3)
# Index of the first random number that is noise of a patch; those before belong to rectangles.
NOISE = 1 << 20


@dataclass(frozen=True)
class Masking:
    """Rule that masks a grid of patches.

    Args:
        grid: (rows, columns) of patches of view 1.
        num_masked: int in [1, rows * columns - 1]. Masked patches per image; 0 in the mode `"none"`.
        mode: `"block"` (rectangles until the count is reached), `"random"` (every set of patches equally likely) or
            `"none"`. Defaults to `"block"`.
        min_block: int in [1, rows * columns]. Smallest area of a rectangle in patches, in block mode. Defaults to 16.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> from keras_siamim.data import Masking
        >>> Masking(grid=(4, 6), num_masked=14, min_block=4).visible_ids(seed=0, epoch=0, index=[7]).shape
        TensorShape([1, 10])
    """

    grid: tuple[int, int]
    num_masked: int
    mode: str = "block"
    min_block: int = 16

    def __post_init__(self):
        rows, columns = (whole_number("grid", side) for side in self.grid)
        object.__setattr__(self, "grid", (rows, columns))
        patches = rows * columns
        if self.mode not in MODES:
            raise ValueError(f"`mode` must be one of {', '.join(MODES)}. Received: {self.mode!r}.")
        if self.mode == "none":
            if self.num_masked:
                raise ValueError(f"`num_masked` must be 0 in the mode 'none'. Received: {self.num_masked}.")
        elif not 1 <= self.num_masked <= patches - 1:
            raise ValueError(
                f"`num_masked` must be in [1, {patches - 1}] for a grid of {rows} x {columns} patches, which leaves "
                f"some masked and some visible. Received: {self.num_masked}."
            )
        if self.mode == "block" and not 1 <= self.min_block <= patches:
            raise ValueError(f"`min_block` must be in [1, {patches}] patches. Received: {self.min_block}.")

    @classmethod
    def of_ratio(cls, grid: tuple[int, int], mask_ratio: float, mode: str = "block", min_block: int = 16) -> Masking:
        """Create the rule from the share of masked patches, rounded to the nearest count.

        Args:
            grid: (rows, columns).
            mask_ratio: float in (0, 1). Ignored in the mode `"none"`.
            mode: See the class.
            min_block: See the class.

        Raises:
            ValueError: If a value is out of its range.
        """
        if mode == "none":
            return cls(grid, 0, mode, min_block)
        if not 0 < mask_ratio < 1:
            raise ValueError(f"`mask_ratio` must be in (0, 1). Received: {mask_ratio}.")
        return cls(grid, round(mask_ratio * grid[0] * grid[1]), mode, min_block)

    @property
    def num_visible(self) -> int:
        """Visible patches per image."""
        return self.grid[0] * self.grid[1] - self.num_masked

    def masks(self, seed: int, epoch: int | Tensor, index: ArrayLike) -> Tensor:
        """Return the masks of some images.

        Args:
            seed: int. Seed of the run.
            epoch: int or int64 scalar tensor.
            index: (images,) int64. Indices of the images.

        Returns:
            (images, rows, columns) bool TensorFlow tensor, True where masked.
        """
        import tensorflow as tf

        keys = random.tf_stream_keys(seed, random.MASKS, epoch, tf.cast(index, tf.int64))
        if self.mode == "block":
            masks = _mask_blocks(keys, self.grid, self.num_masked, self.min_block)
        else:
            masks = tf.zeros([tf.size(keys), self.grid[0] * self.grid[1]], tf.bool)
        return tf.reshape(_fill(keys, masks, self.num_masked), [-1, *self.grid])

    def visible_ids(self, seed: int, epoch: int | Tensor, index: ArrayLike) -> Tensor:
        """Return the visible patches of some images; arguments as for `masks`.

        Returns:
            (images, num_visible) int32 TensorFlow tensor of ascending patch indices in row-major order.
        """
        import tensorflow as tf

        visible = tf.reshape(~self.masks(seed, epoch, index), [-1, self.grid[0] * self.grid[1]])
        return tf.cast(tf.reshape(tf.where(visible)[:, 1], [-1, self.num_visible]), tf.int32)


def _mask_blocks(keys, grid, num_masked, min_block):
    """Mask rectangles until the count is reached or ten in a row were rejected.

    Args:
        keys: (images,) uint64 stream keys.
        grid: (rows, columns).
        num_masked: Largest number of masked patches.
        min_block: Smallest area of a rectangle.

    Returns:
        (images, rows * columns) bool with at most `num_masked` True per image.
    """
    import tensorflow as tf

    in_rows, in_columns = (tf.constant(table) for table in _spans(grid))
    images = tf.size(keys)

    def active(first, masks, remaining, rejected):
        return tf.reduce_any((remaining > 0) & (rejected < TRIES))

    def next_tries(first, masks, remaining, rejected):
        numbers = tf.cast(random.tf_uniforms(keys, 4 * TRIES_PER_ITERATION, first), tf.float64)
        for four in tf.split(numbers, TRIES_PER_ITERATION, axis=1):
            rows, columns = _rectangles(four, remaining, grid, min_block)
            new = tf.gather(in_rows, rows) & tf.gather(in_columns, columns) & ~masks
            added = tf.math.count_nonzero(new, axis=1, dtype=tf.int32)
            accepted = (added > 0) & (added <= remaining) & (rejected < TRIES)
            masks |= new & accepted[:, None]
            remaining -= tf.where(accepted, added, 0)
            rejected = tf.where(accepted, 0, rejected + 1)
        return first + 4 * TRIES_PER_ITERATION, masks, remaining, rejected

    start = (
        tf.constant(0, tf.int64),
        tf.zeros([images, grid[0] * grid[1]], tf.bool),
        tf.fill([images], num_masked),
        tf.zeros([images], tf.int32),
    )
    return tf.while_loop(active, next_tries, start)[1]


def _rectangles(numbers, remaining, grid, min_block):
    # One rectangle per image from four uniform numbers, (images, 4) float64. Rows and columns are indices into the
    # tables of `_spans`. The rectangle is empty unless both sides are smaller than the grid's.
    import tensorflow as tf

    area = min_block + numbers[:, 0] * tf.cast(remaining - min_block, tf.float64)
    aspect = tf.exp(LOG_ASPECTS[0] + numbers[:, 1] * (LOG_ASPECTS[1] - LOG_ASPECTS[0]))
    height, width = (tf.cast(tf.round(tf.sqrt(squared)), tf.int32) for squared in (area * aspect, area / aspect))
    fits = tf.cast((height < grid[0]) & (width < grid[1]), tf.int32)
    spans = []
    for number, side, end in ((numbers[:, 2], height * fits, grid[0] + 1), (numbers[:, 3], width * fits, grid[1] + 1)):
        start = tf.cast(number * tf.cast(end - side, tf.float64), tf.int32)
        spans.append(start * end + start + side)
    return spans


@functools.lru_cache
def _spans(grid):
    # Two tables, (spans, patches) bool: whether a patch lies within rows [first, last), at index
    # first * (rows + 1) + last, and likewise within columns.
    found = []
    for side, positions in zip(grid, np.indices(grid).reshape(2, -1), strict=True):
        first, last = np.indices((side + 1, side + 1)).reshape(2, -1, 1)
        found.append((first <= positions) & (positions < last))
    return found


def _fill(keys, masks, num_masked):
    """Mask the patches with the smallest noise, until exactly `num_masked` are masked.

    Args:
        keys: (images,) uint64 stream keys.
        masks: (images, patches) bool with at most `num_masked` True per image.
        num_masked: Masked patches per image in the end.

    Returns:
        (images, patches) bool.
    """
    import tensorflow as tf

    if not num_masked:
        return masks
    short = tf.where(tf.math.count_nonzero(masks, axis=1) < num_masked)[:, 0]
    noise = random.tf_uniforms(tf.gather(keys, short), masks.shape[1], NOISE)
    # Masked patches come first, so the first `num_masked` are these and the least noisy others.
    order = tf.argsort(tf.where(tf.gather(masks, short), -1.0, noise), axis=1, stable=True)[:, :num_masked]
    rows = tf.repeat(tf.cast(short, tf.int32)[:, None], num_masked, axis=1)
    positions = tf.reshape(tf.stack([rows, order], axis=-1), [-1, 2])
    return tf.tensor_scatter_nd_update(masks, positions, tf.ones(tf.shape(positions)[:1], tf.bool))
