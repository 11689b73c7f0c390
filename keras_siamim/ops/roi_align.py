"""RoIAlign (arXiv 1703.06870, section 3) with half-pixel alignment and adaptive sampling, as detectron2 computes it.

Bounds, clamping and bilinear weights of its samples factor by axis. So the pooled map is `W_y F W_x^T` exactly, where a
row of `W_y` is the mean of the interpolation weights of a bin's samples. Shapes are static for any number of samples.
"""

from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_siamim.types import Tensor

# Samples of a bin that can touch one cell, if there are as many as adaptive sampling takes. Five samples or more lie at
# least 0.8 cells apart, so that at most three fall within one cell of a center; two more allow for rounding.
_CANDIDATES = 5
# Maps with longer sides are pooled from gathered cells, not as a whole.
LARGEST_WHOLE_MAP = 128
# Cells per axis that are gathered for a box. Boxes pooled from the level of their area fill 28 cells if square.
GATHERED_CELLS = 64
# More boxes per image are pooled in groups, one after another, since gathered cells take megabytes per box.
BOXES_AT_A_TIME = 64


def axis_weights(
    start: Tensor, side: Tensor, bins: int, cells: int, sampling_ratio: int = 0, bounds: tuple | None = None
) -> Tensor:
    """Return the weights of cells in the bins of boxes along one axis.

    Args:
        start: (...) float32. Where boxes start, in cells; the center of cell i is at i.
        side: (...) float32. Sides of boxes in cells. Without a positive side all weights are 0, in adaptive sampling.
        bins: int. Number of bins.
        cells: int. Number of cells.
        sampling_ratio: int. Samples per bin; 0 takes a bin's side in cells, rounded up. Defaults to 0.
        bounds: (lowest, highest) numbers or tensors that broadcast with (...), and the distance beyond them at which
            samples count as 0. Defaults to the first and the last cell, and 1.

    Returns:
        (..., bins, cells) float32. A bin's weights sum to 1, or less if samples are outside.

    Example:
        >>> start, side = np.float32([0]), np.float32([2])
        >>> axis_weights(start, side, bins=2, cells=3).numpy().tolist()
        [[[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]]
    """
    lowest, highest, margin = bounds or (0.0, cells - 1.0, 1.0)
    lowest, highest, margin = (_column(value) for value in (lowest, highest, margin))
    start, side = _column(start), _column(side)
    if sampling_ratio:
        count, candidates = ops.full_like(side, sampling_ratio), sampling_ratio
    else:
        # Compilers may replace the division by a product that rounds up.
        count, candidates = ops.ceil(side / bins), _CANDIDATES
        count = ops.where((count - 1) * bins >= side, count - 1, count)
    some = count > 0
    count = ops.where(some, count, 1.0)
    distance = ops.where(some, side, 1.0) / bins / count
    bin_start = start + ops.arange(bins, dtype="float32")[:, None] * (side / bins)
    cell = ops.arange(cells, dtype="float32")
    first = ops.floor((cell - 1 - bin_start) / ops.where(distance == 0, 1.0, distance) - 0.5)
    first = ops.clip(first, 0.0, ops.maximum(count - candidates, 0.0))
    number = first + ops.reshape(ops.arange(candidates, dtype="float32"), (-1,) + (1,) * len(first.shape))
    place = bin_start + (number + 0.5) * distance
    inside = (place >= lowest - margin) & (place <= highest + margin) & (number < count) & some
    weights = ops.relu(1 - ops.abs(ops.clip(place, lowest, highest) - cell))
    weights = ops.sum(ops.where(inside, weights, 0.0), axis=0)
    return weights / count


def _column(value):
    """Add the axes of bins and cells to a tensor."""
    return ops.convert_to_tensor(value, "float32")[..., None, None]


def roi_align(
    maps: Sequence[Tensor],
    scales: Sequence[float],
    boxes: Tensor,
    levels: Tensor | None,
    output_size: tuple[int, int],
    sampling_ratio: int = 0,
    aligned: bool = True,
    whole: bool | None = None,
) -> Tensor:
    """Pool boxes from a feature pyramid; gradients flow to the maps only.

    Args:
        maps: List of tensors (batch, rows, columns, channels) float.
        scales: Sequence of floats, one per map. Cells per pixel.
        boxes: (batch, n, 4) float32, in pixels.
        levels: (batch, n) integers. Index of the map from which each box is pooled. May be None for one map.
        output_size: (rows, columns) of bins.
        sampling_ratio: int. Samples per bin and axis; 0 takes the bin's side in cells, rounded up. Defaults to 0.
        aligned: bool. Whether pixel and cell centers lie at halves, as in detectron2's version 2. Otherwise boxes have
            sides of 1 cell or more. Defaults to True.
        whole: bool. Whether to multiply whole maps, which suits small ones, or to gather `GATHERED_CELLS` cells per
            axis and box. Of longer boxes, every second, third, ... cell is gathered. Defaults to the former if no map
            is longer than `LARGEST_WHOLE_MAP`.

    Returns:
        (batch, n, *output_size, channels) in the dtype of the maps. A box without area gives 0.

    Example:
        >>> features = np.arange(4, dtype="float32").reshape(1, 1, 4, 1)
        >>> boxes = np.array([[[0.0, 0, 4, 1]]], "float32")
        >>> roi_align([features], [1.0], boxes, None, output_size=(1, 2)).numpy().ravel().tolist()
        [0.5, 2.5]
    """
    boxes = ops.stop_gradient(ops.cast(boxes, "float32"))
    levels = ops.zeros_like(boxes[..., 0], dtype="int32") if levels is None else ops.cast(levels, "int32")
    if whole is None:
        whole = max(max(x.shape[1:3]) for x in maps) <= LARGEST_WHOLE_MAP
    pool = _pool_whole if whole else _pool_gathered

    def pool_boxes(boxes, levels):
        values = _LevelValues([tuple(x.shape[1:3]) for x in maps], levels)
        spans = _spans(boxes, values.of(scales), aligned)
        return pool(maps, values, spans, output_size, sampling_ratio)

    return _in_groups(pool_boxes, boxes, levels)


def _in_groups(pool_boxes, boxes, levels):
    """Pool (batch, n) boxes, at most `BOXES_AT_A_TIME` of an image at a time."""
    count = boxes.shape[1]
    if count <= BOXES_AT_A_TIME:
        return pool_boxes(boxes, levels)
    groups = -(-count // BOXES_AT_A_TIME)
    padding = groups * BOXES_AT_A_TIME - count
    batch = ops.shape(boxes)[0]

    def split(values):
        values = ops.pad(values, [(0, 0), (0, padding)] + [(0, 0)] * (len(values.shape) - 2))
        return ops.swapaxes(ops.reshape(values, (batch, groups, BOXES_AT_A_TIME, *values.shape[2:])), 0, 1)

    pooled = ops.swapaxes(ops.map(lambda group: pool_boxes(*group), (split(boxes), split(levels))), 0, 1)
    return ops.reshape(pooled, (batch, groups * BOXES_AT_A_TIME, *pooled.shape[3:]))[:, :count]


class _LevelValues:
    """Values of the level of each box."""

    def __init__(self, sides, levels):
        self.sides = sides
        self.levels = levels

    def of(self, values, dtype="float32"):
        """Return the value of each box's level, (batch, n)."""
        return ops.take(ops.convert_to_tensor(np.asarray(values), dtype), self.levels, axis=0)

    def last(self, axis):
        """Return the index of the last cell along an axis, (batch, n) float32."""
        return self.of([side[axis] - 1 for side in self.sides])


def _spans(boxes, scale, aligned):
    """Return (start, side) of the rows, and of the columns, in cells."""
    offset = 0.5 if aligned else 0.0
    spans = []
    for low, high in ((1, 3), (0, 2)):
        start, end = boxes[..., low] * scale - offset, boxes[..., high] * scale - offset
        spans.append((start, end - start if aligned else ops.maximum(end - start, 1.0)))
    return spans


def _pool_whole(maps, values, spans, output_size, sampling_ratio):
    # A box has one level, so one set of weights serves for all maps.
    weights_y, weights_x = (
        axis_weights(
            start, side, bins, max(sides[axis] for sides in values.sides), sampling_ratio, (0.0, values.last(axis), 1.0)
        )
        for axis, ((start, side), bins) in enumerate(zip(spans, output_size, strict=True))
    )
    pooled = 0.0
    for level, features in enumerate(maps):
        rows, columns = values.sides[level]
        at_level = ops.equal(values.levels, level)[..., None, None]
        pooled = pooled + _pool_map(features, ops.where(at_level, weights_y[..., :rows], 0.0), weights_x[..., :columns])
    return pooled


def _pool_map(features, weights_y, weights_x):
    batch = ops.shape(features)[0]
    boxes, bins, rows = weights_y.shape[1:]
    columns, channels = features.shape[2:]
    weights_y, weights_x = (ops.cast(weights, features.dtype) for weights in (weights_y, weights_x))
    x = ops.matmul(
        ops.reshape(weights_y, (batch, boxes * bins, rows)), ops.reshape(features, (batch, rows, columns * channels))
    )
    return ops.matmul(weights_x[:, :, None], ops.reshape(x, (batch, boxes, bins, columns, channels)))


def _pool_gathered(maps, values, spans, output_size, sampling_ratio):
    weights, indices = [], []
    for axis, ((start, side), bins) in enumerate(zip(spans, output_size, strict=True)):
        last = values.last(axis)
        low, high = (ops.clip(value, 0.0, last) for value in (ops.floor(start), ops.ceil(start + side)))
        step = ops.maximum(ops.ceil((high - low) / (GATHERED_CELLS - 1)), 1.0)
        bounds = (-low / step, (last - low) / step, 1 / step)
        weights.append(axis_weights((start - low) / step, side / step, bins, GATHERED_CELLS, sampling_ratio, bounds))
        cells = low[..., None] + step[..., None] * ops.arange(GATHERED_CELLS, dtype="float32")
        indices.append(ops.cast(ops.minimum(cells, last[..., None]), "int32"))
    counts = [rows * columns for rows, columns in values.sides]
    first = values.of(np.cumsum([0, *counts[:-1]]), "int32")
    width = values.of([columns for _, columns in values.sides], "int32")
    rows, columns = indices
    places = first[..., None, None] + rows[..., None] * width[..., None, None] + columns[:, :, None]
    batch, channels = ops.shape(places)[0], maps[0].shape[-1]
    places = places + sum(counts) * ops.arange(batch)[:, None, None, None]
    cells = [ops.reshape(x, (batch, count, channels)) for x, count in zip(maps, counts, strict=True)]
    crops = ops.take(ops.reshape(ops.concatenate(cells, axis=1), (-1, channels)), places, axis=0)
    weights_y, weights_x = (ops.cast(value, crops.dtype) for value in weights)
    x = ops.einsum("bnpr,bnrcd->bnpcd", weights_y, crops)
    return ops.einsum("bnqc,bnpcd->bnpqd", weights_x, x)
