"""Boxes in plain PyTorch: coder, matching, sampling; suppression and RoIAlign by torchvision, if installed."""

import importlib.util
import math
from collections.abc import Iterable

import torch

HAS_TORCHVISION = importlib.util.find_spec("torchvision") is not None
_LIMIT = math.log(1000 / 16)


def pairwise_iou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return the IoU of boxes (n, 4) and others (m, 4), (n, m)."""
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = (high - low).clamp(min=0).prod(2)
    areas, other_areas = ((x[:, 2:] - x[:, :2]).prod(1) for x in (boxes, others))
    return torch.where(common > 0, common / (areas[:, None] + other_areas[None] - common), 0.0)


def encode(boxes: torch.Tensor, targets: torch.Tensor, weights: tuple[float, ...] = (1, 1, 1, 1)) -> torch.Tensor:
    """Return the deltas from boxes to targets, (n, 4)."""
    sides, target_sides = boxes[:, 2:] - boxes[:, :2], targets[:, 2:] - targets[:, :2]
    moved = (targets[:, :2] + target_sides / 2 - boxes[:, :2] - sides / 2) / sides
    return torch.cat([moved, torch.log(target_sides / sides)], 1) * torch.tensor(weights)


def decode(boxes: torch.Tensor, deltas: torch.Tensor) -> torch.Tensor:
    """Apply deltas to boxes, (n, 4)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centers = boxes[:, :2] + sides / 2 + deltas[:, :2] * sides
    sides = sides * deltas[:, 2:].clamp(max=_LIMIT).exp()
    return torch.cat([centers - sides / 2, centers + sides / 2], 1)


def clip(boxes: torch.Tensor, size: float) -> torch.Tensor:
    """Clip boxes to a square image."""
    return boxes.clamp(0, size)


def match(iou: torch.Tensor, low: float, high: float, with_best: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the object that each box overlaps most, and its label: 1 positive, 0 negative, -1 between.

    Args:
        iou: (objects, boxes).
        low: Boxes below are negative.
        high: Boxes from here on are positive.
        with_best: Whether the best boxes of each object are positive, whatever their IoU.
    """
    best, matches = iou.max(0)
    labels = torch.full_like(matches, -1)
    labels[best < low] = 0
    labels[best >= high] = 1
    if with_best:
        labels[(iou == iou.max(1, keepdim=True).values).any(0)] = 1
    return matches, labels


def sample(
    labels: torch.Tensor, draw: torch.Tensor, count: int, positive_fraction: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the indices of sampled positive and negative boxes, those with the highest random numbers."""
    found = []
    most = int(count * positive_fraction)
    for label in (1, 0):
        indices = torch.nonzero(labels == label)[:, 0]
        order = draw[: len(labels)][indices].argsort(descending=True)
        found.append(indices[order[:most]])
        most = count - len(found[0])
    return found[0], found[1]


def suppress(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return the indices of the boxes that non-maximum suppression keeps, the best first."""
    if HAS_TORCHVISION:
        from torchvision.ops import nms

        return nms(boxes, scores, threshold)
    order = scores.argsort(descending=True, stable=True)
    overlaps = pairwise_iou(boxes[order], boxes[order]) > threshold
    free = torch.ones(len(order), dtype=torch.bool)
    for row in range(len(order)):
        if free[row]:
            free[row + 1 :] &= ~overlaps[row, row + 1 :]
    return order[free]


def align(maps: torch.Tensor, scale: float, boxes: torch.Tensor, images: Iterable[int], bins: int) -> torch.Tensor:
    """Pool boxes by RoIAlign with half-pixel alignment and adaptive sampling.

    Args:
        maps: (images, channels, rows, columns).
        scale: Cells per pixel.
        boxes: (n, 4) in pixels.
        images: Index of the image of each box.
        bins: Rows and columns of the result.

    Returns:
        (n, channels, bins, bins).
    """
    images = list(images)
    if HAS_TORCHVISION:
        from torchvision.ops import roi_align

        rows = torch.cat([torch.tensor(images, dtype=boxes.dtype)[:, None], boxes], 1)
        return roi_align(maps, rows, bins, scale, sampling_ratio=-1, aligned=True)
    if not images:
        return maps.new_zeros(0, maps.shape[1], bins, bins)
    pooled = []
    for image, box in zip(images, (boxes * scale - 0.5).tolist(), strict=True):
        across, down = (
            _axis_weights(box[axis], box[axis + 2] - box[axis], bins, maps.shape[3 - axis]) for axis in (0, 1)
        )
        pooled.append(down @ maps[image] @ across.T)
    return torch.stack(pooled)


def _axis_weights(start: float, side: float, bins: int, cells: int) -> torch.Tensor:
    """Return the weights of cells in bins along an axis, the mean over samples, (bins, cells)."""
    count = math.ceil(side / bins)
    if count < 1:
        return torch.zeros(bins, cells)
    places = start + (torch.arange(bins)[:, None] + (torch.arange(count) + 0.5) / count) * (side / bins)
    inside = (places >= -1) & (places <= cells)
    near = 1 - (places.clamp(0, cells - 1)[..., None] - torch.arange(cells)).abs()
    return (near.clamp(min=0) * inside[..., None]).mean(1)
