"""Losses of Mask R-CNN (arXiv 1703.06870) with detectron2's normalization, and LVIS's federated loss."""

from typing import NamedTuple

from keras import ops

from keras_siamim.ops.boxes import encode_boxes, pairwise_iou
from keras_siamim.ops.matching import match_boxes, sample_boxes
from keras_siamim.types import Tensor

ANCHOR_THRESHOLDS = (0.3, 0.7)
REGION_THRESHOLD = 0.5
# Weights of the box coder: of anchors, and of regions.
ANCHOR_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
REGION_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


class Truth(NamedTuple):
    """Objects of a batch.

    Attributes:
        boxes: (batch, objects, 4) float32.
        classes: (batch, objects) int32, -1 for padding.
    """

    boxes: Tensor
    classes: Tensor

    @property
    def valid(self) -> Tensor:
        """(batch, objects) bool, False for padding."""
        return self.classes >= 0


class Regions(NamedTuple):
    """Regions that train the heads, those with an object first.

    Attributes:
        boxes: (batch, regions, 4) float32.
        truth_index: (batch, regions) int32. Object that each region overlaps most.
        truth_boxes: (batch, regions, 4) float32. Its box; the region itself where there is none.
        classes: (batch, regions) int32. Its class, or the number of classes for background.
        positive: (batch, regions) bool. Whether it has an object.
        valid: (batch, regions) bool. False for padding.
    """

    boxes: Tensor
    truth_index: Tensor
    truth_boxes: Tensor
    classes: Tensor
    positive: Tensor
    valid: Tensor


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the element-wise cross-entropy of logits and targets in [0, 1].

    Example:
        >>> round(float(binary_cross_entropy(np.float32(0), np.float32(1))), 4)
        0.6931
    """
    logits = ops.convert_to_tensor(logits)
    return ops.relu(logits) - logits * targets + ops.log1p(ops.exp(-ops.abs(logits)))


def anchor_losses(
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    truth: Truth,
    priorities: Tensor,
    count: int,
    positive_fraction: float,
) -> tuple[Tensor, Tensor]:
    """Return both losses of a region proposal network, over a sample of its anchors.

    Args:
        logits: (batch, anchors) float32.
        deltas: (batch, anchors, 4) float32.
        anchors: (anchors, 4) float32.
        truth: `Truth`.
        priorities: (batch, anchors) float32, uniform random numbers in [0, 1): the sample.
        count: int. Sampled anchors per image, the divisor of both losses.
        positive_fraction: float. Largest share of positive ones.

    Returns:
        float32 scalars: binary cross-entropy of the sampled anchors and L1 of the positive ones' deltas.
    """
    matches, labels = match_boxes(pairwise_iou(truth.boxes, anchors), truth.valid, ANCHOR_THRESHOLDS, with_best=True)
    indices, positive, valid = sample_boxes(labels, priorities, count, positive_fraction)
    logits = ops.take_along_axis(logits, indices, axis=1)
    deltas = ops.take_along_axis(deltas, indices[..., None], axis=1)
    anchors = ops.take(anchors, indices, axis=0)
    boxes = ops.take_along_axis(truth.boxes, ops.take_along_axis(matches, indices, axis=1)[..., None], axis=1)
    boxes = ops.where(positive[..., None], boxes, anchors)
    targets = ops.stop_gradient(encode_boxes(anchors, boxes, ANCHOR_WEIGHTS))
    divisor = ops.cast(ops.shape(logits)[0] * count, "float32")
    entropy = binary_cross_entropy(logits, ops.cast(positive, "float32"))
    return _masked_sum(entropy, valid) / divisor, _masked_sum(ops.abs(deltas - targets), positive) / divisor


def sample_regions(
    boxes: Tensor,
    valid: Tensor,
    truth: Truth,
    priorities: Tensor,
    count: int,
    positive_fraction: float,
    num_classes: int,
) -> Regions:
    """Sample regions from proposals and the boxes of the objects.

    Args:
        boxes: (batch, proposals, 4) float32.
        valid: (batch, proposals) bool. False for padding.
        truth: `Truth`. Its boxes are appended to the proposals.
        priorities: (batch, proposals + objects) float32, uniform random numbers in [0, 1): the sample.
        count: int. Regions per image.
        positive_fraction: float. Largest share of those with an object.
        num_classes: int. Number of classes.
    """
    boxes = ops.concatenate([boxes, truth.boxes], axis=1)
    valid = ops.concatenate([valid, truth.valid], axis=1)
    iou = pairwise_iou(truth.boxes, boxes)
    matches, labels = match_boxes(iou, truth.valid, (REGION_THRESHOLD, REGION_THRESHOLD))
    indices, positive, valid = sample_boxes(ops.where(valid, labels, -1), priorities, count, positive_fraction)
    # Padding becomes empty boxes, which pool zeros.
    boxes = ops.where(valid[..., None], ops.take_along_axis(boxes, indices[..., None], axis=1), 0.0)
    matches = ops.take_along_axis(matches, indices, axis=1)
    classes = ops.where(positive, ops.take_along_axis(truth.classes, matches, axis=1), num_classes)
    truth_boxes = ops.where(positive[..., None], ops.take_along_axis(truth.boxes, matches[..., None], axis=1), boxes)
    return Regions(boxes, matches, truth_boxes, classes, positive, valid)


def class_loss(scores: Tensor, regions: Regions) -> Tensor:
    """Return the mean softmax cross-entropy over all regions of a batch.

    Args:
        scores: (batch, regions, classes + 1) float32 logits, background last.
        regions: `Regions`.

    Returns:
        float32 scalar.
    """
    chosen = ops.take_along_axis(scores, regions.classes[..., None], axis=2)[..., 0]
    return _masked_sum(ops.logsumexp(scores, axis=2) - chosen, regions.valid) / _count(regions.valid)


def federated_class_loss(scores: Tensor, regions: Regions, chosen: Tensor | None = None) -> Tensor:
    """Return the binary cross-entropy of all classes, or of some, summed over classes and averaged over regions.

    Args:
        scores: (batch, regions, classes + 1) float32 logits; the last one is ignored.
        regions: `Regions`.
        chosen: (classes + 1,) bool, from `federated_classes`. Defaults to all classes.

    Returns:
        float32 scalar.
    """
    num_classes = scores.shape[-1] - 1
    targets = ops.one_hot(regions.classes, num_classes + 1)[..., :num_classes]
    entropy = binary_cross_entropy(scores[..., :num_classes], targets)
    if chosen is not None:
        entropy = ops.where(chosen[:num_classes], entropy, 0.0)
    return _masked_sum(entropy, regions.valid) / _count(regions.valid)


def federated_classes(regions: Regions, weights: Tensor, uniform: Tensor, least: int) -> Tensor:
    """Choose the classes of LVIS's federated loss: those of the batch, filled up by a weighted draw.

    Args:
        regions: `Regions`. Background counts as one of the classes of the batch.
        weights: (classes,) float32. A class is drawn in proportion to its weight, without replacement.
        uniform: (classes,) float32, random numbers in [0, 1): the draw.
        least: int. Number of classes, if the batch has fewer.

    Returns:
        (classes + 1,) bool.
    """
    num_classes = weights.shape[0]
    # The padding of regions has the class of the background.
    present = ops.any(ops.one_hot(regions.classes, num_classes + 1) > 0, axis=(0, 1))
    # The highest sums of log weights and Gumbel noise are a draw without replacement.
    noise = -ops.log(-ops.log(ops.clip(uniform, 1e-12, 1 - 1e-7)))
    drawn = ops.log(ops.maximum(weights, 1e-30)) + noise
    order = ops.where(present, float("inf"), ops.pad(drawn, (0, 1), constant_values=-float("inf")))
    ranks = ops.argsort(ops.argsort(-order))
    fill = ops.logical_and(ranks < least, ops.arange(num_classes + 1) < num_classes)
    return ops.logical_or(present, fill)


def box_loss(deltas: Tensor, regions: Regions) -> Tensor:
    """Return L1 of the deltas of the regions with an object, for its class, divided by the number of all regions.

    Args:
        deltas: (batch, regions, classes, 4) float32.
        regions: `Regions`.

    Returns:
        float32 scalar.
    """
    classes = ops.minimum(regions.classes, deltas.shape[2] - 1)
    deltas = ops.take_along_axis(deltas, classes[..., None, None], axis=2)[:, :, 0]
    positive = regions.positive
    # An empty box has no deltas; only padding is empty.
    boxes, targets = (
        ops.where(positive[..., None], x, ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0]))
        for x in (regions.boxes, regions.truth_boxes)
    )
    targets = ops.stop_gradient(encode_boxes(boxes, targets, REGION_WEIGHTS))
    return _masked_sum(ops.abs(deltas - targets), positive) / _count(regions.valid)


def mask_loss(logits: Tensor, targets: Tensor, classes: Tensor, positive: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of the masks of the regions with an object, for its class.

    Args:
        logits: (batch, regions, size, size, classes) float32.
        targets: (batch, regions, size, size) bool.
        classes: (batch, regions) int32.
        positive: (batch, regions) bool.

    Returns:
        float32 scalar; 0 if there is no such region.
    """
    classes = ops.minimum(classes, logits.shape[-1] - 1)
    logits = ops.take_along_axis(logits, classes[..., None, None, None], axis=4)[..., 0]
    entropy = ops.mean(binary_cross_entropy(logits, ops.cast(targets, "float32")), axis=(2, 3))
    return _masked_sum(entropy, positive) / _count(positive)


def _masked_sum(values, mask):
    """Return the sum of values (batch, n, ...) where the mask (batch, n) is True."""
    extra = tuple(range(2, len(values.shape)))
    values = ops.sum(values, axis=extra) if extra else values
    return ops.sum(ops.where(mask, values, 0.0))


def _count(mask):
    return ops.maximum(ops.sum(ops.cast(mask, "float32")), 1.0)
