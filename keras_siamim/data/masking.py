"""Which patches of view 1 are hidden: block-wise (BEiT, arXiv 2106.08254, algorithm 1) or at random (MAE).

Every image loses exactly the same number of patches, so that the visible ones fit a tensor of constant shape. Masks
are a function of (seed, epoch, image number), in NumPy, for a whole batch at once.
"""

import functools
from dataclasses import dataclass

import numpy as np

from keras_siamim.data import random

TRIES = 10
# Tries whose numbers are drawn together.
TOGETHER = 4
MODES = ("block", "random", "none")
# Rectangles are at most so much wider than high, or higher than wide.
LOG_ASPECTS = np.log(0.3), -np.log(0.3)
# The numbers of a mask's stream from here on are the noise per patch; those before it belong to the rectangles.
NOISE = 1 << 20


@dataclass(frozen=True)
class Masking:
    """How to mask a grid of patches.

    Args:
        grid: `(rows, columns)` of patches of view 1.
        num_masked: patches to hide in every image, 1...rows * columns - 1; 0 in the mode `"none"`.
        mode: `"block"`, rectangles drawn until the count is reached, `"random"`, every set equally likely, or `"none"`.
        min_block: smallest area of a rectangle in patches; block mode only.

    Example:
    >>> Masking(grid=(4, 6), num_masked=14, min_block=4).visible_ids(seed=0, epoch=0, index=[7]).shape
    (1, 10)
    """

    grid: tuple[int, int]
    num_masked: int
    mode: str = "block"
    min_block: int = 16

    def __post_init__(self):
        rows, columns = self.grid
        object.__setattr__(self, "grid", (rows, columns))
        patches = rows * columns
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}; received {self.mode!r}.")
        if self.mode == "none":
            if self.num_masked:
                raise ValueError(f"num_masked must be 0 in the mode 'none'; received {self.num_masked}.")
        elif not 1 <= self.num_masked <= patches - 1:
            raise ValueError(
                f"num_masked must be within 1...{patches - 1} for a grid of {rows} x {columns} patches, "
                f"so that something is hidden and something is left; received {self.num_masked}."
            )
        if self.mode == "block" and not 1 <= self.min_block <= patches:
            raise ValueError(f"min_block must be within 1...{patches} patches; received {self.min_block}.")

    @classmethod
    def of_ratio(cls, grid, mask_ratio, mode="block", min_block=16):
        """Build from the share of patches to hide, rounded to the nearest count; the mode `"none"` hides nothing."""
        if mode == "none":
            return cls(grid, 0, mode, min_block)
        if not 0 < mask_ratio < 1:
            raise ValueError(f"mask_ratio must be between 0 and 1, both excluded; received {mask_ratio}.")
        return cls(grid, round(mask_ratio * grid[0] * grid[1]), mode, min_block)

    @property
    def num_visible(self):
        """Patches left in every image."""
        return self.grid[0] * self.grid[1] - self.num_masked

    def masks(self, seed, epoch, index):
        """Draw the masks of some images.

        Args:
            seed: int, the run's seed.
            epoch: int.
            index: `(images,)` ints, the image numbers.

        Returns:
            `(images, rows, columns)` bool, True where masked.
        """
        keys = random.stream_keys(seed, random.MASKS, epoch, index)
        if self.mode == "block":
            masks = blocks(keys, self.grid, self.num_masked, self.min_block)
        else:
            masks = np.zeros((len(keys), *self.grid), bool)
        return fill(keys, masks, self.num_masked)

    def visible_ids(self, seed, epoch, index):
        """Draw masks as the patches that stay.

        Args:
            seed: int, the run's seed.
            epoch: int.
            index: `(images,)` ints, the image numbers.

        Returns:
            `(images, num_visible)` int32, ascending row-major patch numbers.
        """
        return visible_ids(self.masks(seed, epoch, index))


def visible_ids(masks):
    """List the patches that stay.

    Args:
        masks: `(images, rows, columns)` bool, True where masked, the same count in every image.

    Returns:
        `(images, visible)` int32, ascending row-major patch numbers.
    """
    return np.nonzero(~masks.reshape(len(masks), -1))[1].reshape(len(masks), -1).astype("int32")


def blocks(keys, grid, num_masked, min_block):
    """Mask rectangles until the count is reached or ten tries in a row have failed.

    All images take their tries in step, several before those that are done leave: what takes the time is the number of
    calls of NumPy.

    Args:
        keys: `(images,)` uint64 stream keys.
        grid: `(rows, columns)`.
        num_masked: largest number of patches to mask.
        min_block: smallest area drawn for a rectangle.

    Returns:
        `(images, rows, columns)` bool with at most `num_masked` True each.
    """
    in_rows, in_columns = _spans(grid)
    patches = grid[0] * grid[1]
    ones = np.ones(patches, "float32")
    masks = np.zeros((len(keys), patches), bool)
    active = np.arange(len(keys))
    remaining = np.full(len(keys), num_masked)
    failures = np.zeros(len(keys), int)
    first = 0
    while len(active):
        numbers = random.uniforms(keys[active], 4 * TOGETHER, first).T.reshape(TOGETHER, 4, -1)
        first += 4 * TOGETHER
        own = masks[active]
        for drawn in numbers:
            rows, columns = _rectangles(drawn, remaining, grid, min_block)
            new = (in_rows.take(rows, 0) & in_columns.take(columns, 0)) > own
            added = (new.astype("float32") @ ones).astype(int)
            accepted = (added > 0) & (added <= remaining) & (failures < TRIES)
            own |= new & accepted[:, None]
            remaining -= added * accepted
            failures = np.where(accepted, 0, failures + 1)
        masks[active] = own
        going = (remaining > 0) & (failures < TRIES)
        active, remaining, failures = active[going], remaining[going], failures[going]
    return masks.reshape(-1, *grid)


def _rectangles(numbers, remaining, grid, min_block):
    # One rectangle an image from four uniform numbers, (4, images): its rows and its columns as `_spans` counts them,
    # (2, images); none at all unless both sides are smaller than the grid's.
    area = min_block + numbers[0] * (remaining - min_block)
    aspect = np.exp(LOG_ASPECTS[0] + numbers[1] * (LOG_ASPECTS[1] - LOG_ASPECTS[0]))
    sides = np.rint(np.sqrt([area * aspect, area / aspect])).astype(int)
    sides *= (sides[0] < grid[0]) & (sides[1] < grid[1])
    ends = np.array(grid)[:, None] + 1
    starts = (numbers[2:] * (ends - sides)).astype(int)
    return starts * ends + starts + sides


@functools.lru_cache
def _spans(grid):
    # Which patches of the grid lie within rows [first, last), at number first * (rows + 1) + last, and within columns:
    # (spans, patches) bool each.
    found = []
    for side, places in zip(grid, np.indices(grid).reshape(2, -1), strict=True):
        first, last = np.indices((side + 1, side + 1)).reshape(2, -1, 1)
        found.append((first <= places) & (places < last))
    return found


def fill(keys, masks, num_masked):
    """Mask more patches, those with the smallest noise, until exactly `num_masked` are.

    Args:
        keys: `(images,)` uint64 stream keys.
        masks: `(images, rows, columns)` bool with at most `num_masked` True each.
        num_masked: patches masked in the end.

    Returns:
        `(images, rows, columns)` bool.
    """
    flat = masks.reshape(len(masks), -1)
    short = np.flatnonzero(np.count_nonzero(flat, axis=1) < num_masked)
    if len(short):
        noise = random.uniforms(keys[short], flat.shape[1], NOISE)
        # A masked patch comes first in the order, so the first `num_masked` are it and the least noisy others.
        order = np.argsort(np.where(flat[short], -1.0, noise), axis=1, kind="stable")
        flat[short[:, None], order[:, :num_masked]] = True
    return flat.reshape(masks.shape)
