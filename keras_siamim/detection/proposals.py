"""Region proposal network (Faster R-CNN, arXiv 1506.01497, section 3) over a feature pyramid."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_siamim.detection.losses import ANCHOR_WEIGHTS
from keras_siamim.layers.convolution import CHANNELS_LAST
from keras_siamim.ops.anchors import cell_anchors, grid_anchors
from keras_siamim.ops.boxes import clip_boxes, decode_boxes, nonempty
from keras_siamim.ops.nms import non_max_suppression
from keras_siamim.types import Tensor


class Proposals(NamedTuple):
    """Proposals of a batch, best first.

    Attributes:
        boxes: (batch, n, 4) float32, inside their images; 0 for padding.
        logits: (batch, n) float32.
        valid: (batch, n) bool. False for padding.
    """

    boxes: Tensor
    logits: Tensor
    valid: Tensor


class Predictions(NamedTuple):
    """Predictions of a region proposal network, one tensor per level.

    Attributes:
        logits: List of (batch, anchors) float32.
        deltas: List of (batch, anchors, 4) float32.
        anchors: List of NumPy arrays (anchors, 4) float32.
    """

    logits: list[Tensor]
    deltas: list[Tensor]
    anchors: list[np.ndarray]


@keras.saving.register_keras_serializable(package="keras_siamim")
class ProposalHead(keras.layers.Layer):
    """Head of a region proposal network, shared by all levels: two convolutions, then logits and deltas of anchors.

    Args:
        strides: Sequence of floats, one per level. Pixels from one cell of a map to the next.
        anchor_sizes: Sequence of floats, one per level. Square roots of the areas of anchors in pixels.
        aspect_ratios: Sequence of floats. Heights of anchors over widths.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        maps: List of tensors (batch, rows, columns, channels), one per level.

    Returns:
        `Predictions`; anchors are in the order of rows, columns and aspect ratios.

    Example:
        >>> from keras_siamim.detection.proposals import ProposalHead
        >>> head = ProposalHead(strides=(4,), anchor_sizes=(32,), aspect_ratios=(0.5, 1, 2))
        >>> tuple(head([keras.ops.ones((1, 4, 5, 8))]).deltas[0].shape)
        (1, 60, 4)
    """

    def __init__(
        self, strides: Sequence[float], anchor_sizes: Sequence[float], aspect_ratios: Sequence[float], **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.strides = tuple(strides)
        self.anchor_sizes = tuple(anchor_sizes)
        self.aspect_ratios = tuple(aspect_ratios)

    def build(self, shapes):
        width, anchors = shapes[0][-1], len(self.aspect_ratios)
        self.convolutions = [self._convolution(width, 3, f"convolution_{i}", "relu") for i in range(2)]
        self.logits = self._convolution(anchors, 1, "logits")
        self.deltas = self._convolution(4 * anchors, 1, "deltas")
        for layer in (*self.convolutions, self.logits, self.deltas):
            layer.build((None, None, None, width))

    def _convolution(self, filters, kernel_size, name, activation=None):
        return keras.layers.Conv2D(
            filters,
            kernel_size,
            padding="same",
            activation=activation,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            dtype=self.dtype_policy,
            name=name,
            **CHANNELS_LAST,
        )

    def call(self, maps):
        logits, deltas = [], []
        for x in maps:
            for convolution in self.convolutions:
                x = convolution(x)
            anchors = x.shape[1] * x.shape[2] * len(self.aspect_ratios)
            logits.append(ops.cast(ops.reshape(self.logits(x), (-1, anchors)), "float32"))
            deltas.append(ops.cast(ops.reshape(self.deltas(x), (-1, anchors, 4)), "float32"))
        return Predictions(logits, deltas, self.anchors([tuple(x.shape[1:3]) for x in maps]))

    def anchors(self, grids: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Return the anchors of each level.

        Args:
            grids: Sequence of (rows, columns) of the maps.
        """
        return [
            grid_anchors(cell_anchors([size], self.aspect_ratios), grid, stride)
            for size, grid, stride in zip(self.anchor_sizes, grids, self.strides, strict=True)
        ]

    def get_config(self):
        return {
            **super().get_config(),
            "strides": list(self.strides),
            "anchor_sizes": list(self.anchor_sizes),
            "aspect_ratios": list(self.aspect_ratios),
        }


def select_proposals(
    predictions: Predictions, sizes: Tensor, before: int, after: int, nms_threshold: float
) -> Proposals:
    """Return the best boxes of a region proposal network, without gradient.

    Args:
        predictions: `Predictions`.
        sizes: (batch, 2) int32. Height and width of the images, without padding.
        before: int. Boxes per level that are decoded.
        after: int. Boxes of all levels that are kept.
        nms_threshold: float. Largest IoU of two boxes of the same level.
    """
    parts = []
    for level, (logits, deltas, anchors) in enumerate(zip(*predictions, strict=True)):
        top, indices = ops.top_k(ops.stop_gradient(logits), min(before, len(anchors)))
        indices = ops.cast(indices, "int32")
        deltas = ops.take_along_axis(ops.stop_gradient(deltas), indices[..., None], axis=1)
        boxes = decode_boxes(ops.take(ops.convert_to_tensor(anchors), indices, axis=0), deltas, ANCHOR_WEIGHTS)
        parts.append((boxes, top, ops.full_like(indices, level)))
    boxes, logits, levels = (ops.concatenate(values, axis=1) for values in zip(*parts, strict=True))
    height, width = (ops.cast(sizes[:, i : i + 1], "float32") for i in range(2))
    boxes = clip_boxes(boxes, height, width)
    indices, counts = non_max_suppression(boxes, logits, nms_threshold, after, levels, nonempty(boxes))
    valid = ops.arange(after) < counts[:, None]
    boxes = ops.where(valid[..., None], ops.take_along_axis(boxes, indices[..., None], axis=1), 0.0)
    return Proposals(boxes, ops.take_along_axis(logits, indices, axis=1), valid)
