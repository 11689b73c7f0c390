"""Assignment of ground truth to boxes, and random samples of boxes of fixed size."""

from typing import NamedTuple

from keras import ops

from keras_siamim.types import Tensor


class Sample(NamedTuple):
    """Sampled boxes, positive ones first.

    Attributes:
        indices: (..., count) int32. Positions of the boxes.
        positive: (..., count) bool.
        valid: (..., count) bool. False at the end, if there are too few boxes.
    """

    indices: Tensor
    positive: Tensor
    valid: Tensor


def match_boxes(
    iou: Tensor, valid: Tensor, thresholds: tuple[float, float], with_best: bool = False
) -> tuple[Tensor, Tensor]:
    """Assign each box to the ground truth that it overlaps most.

    Args:
        iou: (..., truths, boxes) float, from `pairwise_iou`, with one or more truths.
        valid: (..., truths) bool. False for padding.
        thresholds: (low, high) floats. Boxes with an IoU of `high` or more are positive, below `low` negative, and
            ignored in between.
        with_best: bool. Whether each box with the highest IoU of some truth is positive too, with all ties. Its match
            remains the truth that it overlaps most. Defaults to False.

    Returns:
        Matches (..., boxes) int32, the index of a truth, 0 if there is none; and labels (..., boxes) int32: 1 positive,
        0 negative, -1 ignored.

    Example:
        >>> iou = np.array([[0.8, 0.4, 0.1], [0.2, 0.5, 0.5]])
        >>> _, labels = match_boxes(iou, np.array([True, True]), (0.3, 0.7), with_best=True)
        >>> labels.numpy().tolist()
        [1, 1, 1]
    """
    low, high = thresholds
    iou = ops.where(valid[..., None], iou, -1.0)
    best = ops.max(iou, axis=-2)
    labels = ops.where(best >= high, 1, ops.where(best < low, 0, -1))
    if with_best:
        ties = ops.equal(iou, ops.max(iou, axis=-1, keepdims=True))
        labels = ops.where(ops.any(ops.logical_and(ties, valid[..., None]), axis=-2), 1, labels)
    return ops.cast(ops.argmax(iou, axis=-2), "int32"), ops.cast(labels, "int32")


def sample_boxes(labels: Tensor, priorities: Tensor, count: int, positive_fraction: float) -> Sample:
    """Sample boxes without replacement: positives up to a fraction of `count`, then negatives.

    Uniform random priorities make it a uniform sample.

    Args:
        labels: (..., boxes) integers: 1 positive, 0 negative, others are never sampled.
        priorities: (..., boxes) float, 0 or more. Among positives and among negatives, the highest are sampled.
        count: int. Number of boxes; all boxes if there are fewer.
        positive_fraction: float in [0, 1]. Largest share of positives in `count`.

    Returns:
        `Sample` of min(count, boxes) boxes.

    Example:
        >>> labels, priorities = np.array([0, 1, -1, 1, 0]), np.array([0.1, 0.2, 0.9, 0.8, 0.6])
        >>> sample_boxes(labels, priorities, count=3, positive_fraction=0.5).indices.numpy().tolist()
        [3, 4, 0]
    """
    total = labels.shape[-1]
    most_positive, count = min(int(count * positive_fraction), total), min(count, total)
    parts = []
    for label, most in ((1, most_positive), (0, count)):
        if most:
            chosen, indices = ops.top_k(ops.where(ops.equal(labels, label), priorities, -1.0), most)
            parts.append((ops.cast(indices, "int32"), chosen >= 0, ops.full_like(indices, label, dtype="int32")))
    indices, valid, label = (ops.concatenate(values, axis=-1) for values in zip(*parts, strict=True))
    # Invalid entries move to the end; the sort keeps the order of the others.
    order = ops.argsort(ops.cast(ops.logical_not(valid), "int32"), axis=-1)[..., :count]
    indices, valid, label = (ops.take_along_axis(values, order, axis=-1) for values in (indices, valid, label))
    return Sample(indices, ops.logical_and(valid, ops.equal(label, 1)), valid)
