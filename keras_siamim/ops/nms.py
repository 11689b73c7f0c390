"""Non-maximum suppression with static shapes."""

from keras import ops

from keras_siamim.ops.boxes import pairwise_iou
from keras_siamim.types import Tensor

# Boxes that are compared with each other at once.
_TILE = 256


def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    threshold: float,
    max_output: int,
    groups: Tensor | None = None,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Select boxes by falling score, leaving out those that overlap a selected one too much.

    The result is that of the greedy algorithm, for any number of boxes. Boxes are sorted and decided in tiles: those
    that overlap boxes selected before are dropped, then those that overlap a better one of the same tile, until nothing
    changes. It stops as soon as every image has `max_output` boxes.

    Args:
        boxes: (batch, n, 4) float.
        scores: (batch, n) float. Of equal scores the first comes first.
        threshold: float. Boxes with a larger IoU with a selected box are dropped.
        max_output: int. Largest number of selected boxes per image.
        groups: (batch, n) integers. Boxes of different groups, such as classes or levels, do not suppress each other.
            Defaults to one group.
        valid: (batch, n) bool. Boxes that may be selected. Defaults to all.

    Returns:
        Indices (batch, max_output) int32, best first, padded with 0; and counts (batch,) int32 of selected boxes.

    Example:
        >>> boxes = np.array([[[0.0, 0, 4, 4], [0, 0, 4, 3], [5, 5, 9, 9]]])
        >>> indices, counts = non_max_suppression(boxes, np.array([[0.5, 0.9, 0.1]]), threshold=0.5, max_output=3)
        >>> indices.numpy().tolist(), counts.numpy().tolist()
        ([[1, 2, 0]], [2])
    """
    scores = ops.convert_to_tensor(scores)
    total = scores.shape[1]
    tile = min(_TILE, total)
    valid = ops.ones_like(scores, dtype="bool") if valid is None else valid
    groups = ops.zeros_like(scores, dtype="int32") if groups is None else ops.cast(groups, "int32")
    order = ops.argsort(ops.where(valid, -ops.cast(scores, "float32"), float("inf")), axis=1)
    padding = -total % tile
    order = ops.pad(order, ((0, 0), (0, padding)))
    boxes = ops.take_along_axis(ops.cast(boxes, "float32"), order[..., None], axis=1)
    groups, valid = ops.take_along_axis(groups, order, axis=1), ops.take_along_axis(valid, order, axis=1)
    valid = ops.logical_and(valid, ops.arange(total + padding) < total)

    slots = ops.arange(max_output)
    earlier = ops.arange(tile)[:, None] < ops.arange(tile)[None]

    def overlap(first, first_groups, second, second_groups):
        same = ops.equal(first_groups[:, :, None], second_groups[:, None])
        return ops.logical_and(pairwise_iou(first, second) > threshold, same)

    # Boxes that may be selected come first in the order.
    end = ops.max(ops.sum(ops.cast(valid, "int32"), axis=1))

    def unfinished(start, selected, counts):
        return ops.logical_and(start < end, ops.any(counts < max_output))

    def select_from_tile(start, selected, counts):
        positions = start + ops.arange(tile)
        tile_boxes, tile_groups, candidates = (ops.take(x, positions, axis=1) for x in (boxes, groups, valid))
        kept_boxes = ops.take_along_axis(boxes, selected[..., None], axis=1)
        kept_groups = ops.take_along_axis(groups, selected, axis=1)
        is_kept = slots < counts[:, None]
        dropped = ops.logical_and(overlap(kept_boxes, kept_groups, tile_boxes, tile_groups), is_kept[..., None])
        candidates = ops.logical_and(candidates, ops.logical_not(ops.any(dropped, axis=1)))
        suppresses = ops.logical_and(overlap(tile_boxes, tile_groups, tile_boxes, tile_groups), earlier)

        def unsettled(before, after):
            return ops.any(ops.not_equal(before, after))

        def suppress(before, after):
            # The first k boxes are decided after k rounds at the latest; a handful of rounds is usual.
            hit = ops.any(ops.logical_and(suppresses, after[..., None]), axis=1)
            return after, ops.logical_and(candidates, ops.logical_not(hit))

        _, keep = ops.while_loop(unsettled, suppress, suppress(candidates, candidates))
        # Kept boxes go to the next free slots; those beyond the last one go nowhere.
        ranks = counts[:, None] + ops.cumsum(ops.cast(keep, "int32"), axis=1) - 1
        goes_to = ops.logical_and(ops.equal(slots[:, None], ranks[:, None]), keep[:, None])
        selected = selected + ops.sum(ops.where(goes_to, positions, 0), axis=2)
        counts = ops.minimum(counts + ops.sum(ops.cast(keep, "int32"), axis=1), max_output)
        return start + tile, ops.cast(selected, "int32"), ops.cast(counts, "int32")

    counts = ops.zeros_like(order[:, 0], dtype="int32")
    selected = counts[:, None] + ops.zeros((max_output,), "int32")
    start = ops.zeros((), "int32")
    _, selected, counts = ops.while_loop(unfinished, select_from_tile, (start, selected, counts))
    indices = ops.take_along_axis(order, selected, axis=1)
    return ops.cast(ops.where(slots < counts[:, None], indices, 0), "int32"), counts
