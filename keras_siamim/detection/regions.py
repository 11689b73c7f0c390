"""Region heads of a detector: losses of sampled regions, and detections from proposals."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_siamim.detection import losses
from keras_siamim.detection.heads import BoxHead, MaskHead
from keras_siamim.detection.proposals import Proposals
from keras_siamim.detection.pyramid import FIRST_LEVEL
from keras_siamim.detection.settings import DetectorSettings
from keras_siamim.ops.boxes import box_levels, clip_boxes, decode_boxes
from keras_siamim.ops.masks import crop_masks
from keras_siamim.ops.nms import non_max_suppression
from keras_siamim.ops.roi_align import roi_align
from keras_siamim.types import Tensor

_BOX_BINS, _MASK_BINS = (7, 7), (14, 14)


class RegionHeads(keras.layers.Layer):
    """Box head and optional mask head on regions of a feature pyramid.

    Args:
        num_classes: int. Number of classes.
        strides: Sequence of floats. Pixels from one cell to the next of each map, without the smallest map.
        settings: `DetectorSettings`.
        masks: bool. Whether there is a mask head.
        class_counts: Sequence of numbers. Training images per class, for LVIS's federated loss. Defaults to None: all
            classes count.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `class_counts` has a wrong length, or the classes share one softmax.
    """

    def __init__(
        self,
        num_classes: int,
        strides: Any,
        settings: DetectorSettings,
        masks: bool,
        class_counts: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if class_counts is not None and len(class_counts) != num_classes:
            raise ValueError(f"`class_counts` must have {num_classes} numbers. Received: {len(class_counts)}.")
        if class_counts is not None and not settings.sigmoid:
            raise ValueError("`class_counts` must be None unless `settings.sigmoid`. Received: counts.")
        self.num_classes = num_classes
        self.strides = tuple(strides)
        self.settings = settings
        self.class_counts = class_counts
        policy = self.dtype_policy
        self.box_head = BoxHead(num_classes, settings.head_width, settings.dense_width, dtype=policy, name="box_head")
        self.mask_head = MaskHead(num_classes, settings.head_width, dtype=policy, name="mask_head") if masks else None

    def build(self, shapes):
        channels = shapes[0][-1]
        self.box_head.build((None, None, *_BOX_BINS, channels))
        if self.mask_head is not None:
            self.mask_head.build((None, None, *_MASK_BINS, channels))

    def pool(self, maps: list[Tensor], boxes: Tensor, bins: tuple[int, int]) -> Tensor:
        """Return the regions of boxes (batch, regions, 4) from the levels of their sizes, (batch, regions, *bins, ...).

        Args:
            maps: List of tensors (batch, rows, columns, channels), one per stride.
            boxes: (batch, regions, 4) float32.
            bins: (rows, columns) of a region.
        """
        settings = self.settings
        levels = box_levels(boxes, len(maps), FIRST_LEVEL, settings.canonical_size, settings.canonical_level)
        return roi_align(maps, [1 / stride for stride in self.strides], boxes, levels, bins)

    def losses_of(
        self,
        maps: list[Tensor],
        regions: losses.Regions,
        sizes: Tensor,
        masks: Tensor | None = None,
        class_draw: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the losses of sampled regions.

        Args:
            maps: List of tensors (batch, rows, columns, channels), one per stride.
            regions: `losses.Regions`.
            sizes: (batch, 2) int32. Height and width of the images, without padding.
            masks: (batch, objects, height, width), 0 and 1, for a mask head. Defaults to None.
            class_draw: (num_classes,) float32, uniform random numbers in [0, 1), for class counts. Defaults to None.

        Returns:
            Dictionary of float32 scalars: `class_loss`, `box_loss` and, with a mask head, `mask_loss`.
        """
        scores, deltas = self.box_head(self.pool(maps, regions.boxes, _BOX_BINS))
        found = {
            "class_loss": self._class_loss(scores, regions, class_draw),
            "box_loss": losses.box_loss(deltas, regions),
        }
        if self.mask_head is not None:
            # Regions with an object come first, so the others need no masks.
            count = min(int(self.settings.regions_sampled * self.settings.region_positive_fraction), scores.shape[1])
            boxes, index, _, classes, positive, _ = (value[:, :count] for value in regions)
            logits = self.mask_head(self.pool(maps, boxes, _MASK_BINS))
            targets = crop_masks(masks, sizes, index, boxes, logits.shape[2])
            found["mask_loss"] = losses.mask_loss(logits, targets, classes, positive)
        return found

    def _class_loss(self, scores, regions, class_draw):
        if not self.settings.sigmoid:
            return losses.class_loss(scores, regions)
        if self.class_counts is None:
            return losses.federated_class_loss(scores, regions)
        weights = ops.sqrt(ops.convert_to_tensor(self.class_counts, "float32"))
        chosen = losses.federated_classes(regions, weights, class_draw, self.settings.federated_classes)
        return losses.federated_class_loss(scores, regions, chosen)

    def detect(
        self, maps: list[Tensor], proposals: Proposals, sizes: Tensor, score_threshold: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the best boxes after suppression within each class.

        Args:
            maps: List of tensors (batch, rows, columns, channels), one per stride.
            proposals: `Proposals`.
            sizes: (batch, 2) int32. Height and width of the images, without padding.
            score_threshold: (batch,) float32. Detections have a higher score. Defaults to that of the settings.

        Returns:
            Dictionary of `boxes` (batch, detections, 4) float32, `scores` (batch, detections) float32, best first,
            `classes` (batch, detections) int32, `counts` (batch,) int32 of detections, and with a mask head `masks`
            (batch, detections, 28, 28) float32, probabilities. Padding is 0, of classes -1.
        """
        scores, deltas = self.box_head(self.pool(maps, proposals.boxes, _BOX_BINS))
        probabilities = ops.sigmoid(scores) if self.settings.sigmoid else ops.softmax(scores, axis=-1)
        boxes = decode_boxes(proposals.boxes[:, :, None], deltas, losses.REGION_WEIGHTS)
        found = self._best(boxes, probabilities[..., : self.num_classes], proposals.valid, sizes, score_threshold)
        if self.mask_head is not None:
            logits = self.mask_head(self.pool(maps, found["boxes"], _MASK_BINS))
            classes = ops.maximum(found["classes"], 0)[..., None, None, None]
            found["masks"] = ops.sigmoid(ops.take_along_axis(logits, classes, axis=4)[..., 0])
        return found

    def _best(self, boxes, scores, valid, sizes, threshold):
        settings = self.settings
        threshold = settings.score_threshold if threshold is None else ops.cast(threshold, "float32")[:, None, None]
        height, width = (ops.cast(sizes[:, i], "float32")[:, None, None] for i in range(2))
        count = scores.shape[1] * self.num_classes
        boxes = ops.reshape(clip_boxes(boxes, height, width), (-1, count, 4))
        valid = ops.reshape(ops.logical_and(scores > threshold, valid[..., None]), (-1, count))
        scores = ops.reshape(scores, (-1, count))
        classes = ops.broadcast_to(ops.arange(count, dtype="int32") % self.num_classes, ops.shape(scores))
        indices, counts = non_max_suppression(
            boxes, scores, settings.nms_threshold, settings.detections, classes, valid
        )
        kept = ops.arange(settings.detections) < counts[:, None]
        return {
            "boxes": ops.where(kept[..., None], ops.take_along_axis(boxes, indices[..., None], axis=1), 0.0),
            "scores": ops.where(kept, ops.take_along_axis(scores, indices, axis=1), 0.0),
            "classes": ops.where(kept, ops.take_along_axis(classes, indices, axis=1), -1),
            "counts": counts,
        }
