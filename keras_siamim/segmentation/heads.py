"""Neck and heads of UPerNet (arXiv 1807.10221), as mmsegmentation applies them to a ViT."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_siamim._backend.kernels import gelu
from keras_siamim.layers import TokenBatchNorm
from keras_siamim.layers.convolution import CHANNELS_LAST, upsampling
from keras_siamim.segmentation.layers import ConvNormRelu, adaptive_average_pool, class_logits, resize_bilinear

POOL_SCALES = (1, 2, 3, 6)


@keras.saving.register_keras_serializable(package="keras_siamim")
class MultiScaleNeck(keras.layers.Layer):
    """Neck from four maps of one size to the sizes of a feature pyramid: 4, 2, 1 and 1/2 times the patch grid.

    Call arguments:
        maps: List of four tensors (batch, rows, columns, width).

    Returns:
        List of four tensors, the largest first; odd sides are halved downwards.

    Example:
        >>> from keras_siamim.segmentation.heads import MultiScaleNeck
        >>> maps = [keras.ops.ones((2, 2, 3, 8))] * 4
        >>> [tuple(x.shape[1:3]) for x in MultiScaleNeck()(maps)]
        [(8, 12), (4, 6), (2, 3), (1, 1)]
    """

    def build(self, shapes):
        width = shapes[0][-1]
        policy = self.dtype_policy
        self.up_4_first = upsampling(width, policy, "up_4_first")
        self.norm = TokenBatchNorm(dtype=policy, name="norm")
        self.up_4_second = upsampling(width, policy, "up_4_second")
        self.up_2 = upsampling(width, policy, "up_2")
        for layer in (self.up_4_first, self.norm, self.up_4_second, self.up_2):
            layer.build((None, None, None, width))

    def call(self, maps, training=False):
        x_4, x_2, x_1, x_half = maps
        x_4 = gelu(self.norm(self.up_4_first(x_4), training=training), training)
        return [self.up_4_second(x_4), self.up_2(x_2), x_1, ops.max_pool(x_half, 2, 2, **CHANNELS_LAST)]

    def compute_output_shape(self, shapes):
        return [
            (batch, int(rows * scale), int(columns * scale), width)
            for (batch, rows, columns, width), scale in zip(shapes, (4, 2, 1, 0.5), strict=True)
        ]


@keras.saving.register_keras_serializable(package="keras_siamim")
class UPerHead(keras.layers.Layer):
    """Head of UPerNet: pyramid pooling of the smallest map, top-down fusion of all maps, class logits.

    Args:
        num_classes: int. Number of classes.
        width: int. Channels inside the head.
        pool_scales: Sequence of ints. Sides of the pooled maps. Defaults to 1, 2, 3, 6.
        dropout: float in [0, 1). Rate of dropped channels before the logits. Defaults to 0.1.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        maps: List of tensors (batch, rows, columns, channels), the largest first.

    Returns:
        (batch, rows, columns, num_classes) at the size of the largest map, in the compute dtype.

    Example:
        >>> from keras_siamim.segmentation.heads import UPerHead
        >>> maps = [keras.ops.ones((2, side, side, 4)) for side in (8, 4, 2, 1)]
        >>> tuple(UPerHead(num_classes=5, width=6)(maps).shape)
        (2, 8, 8, 5)
    """

    def __init__(
        self,
        num_classes: int,
        width: int,
        pool_scales: Sequence[int] = POOL_SCALES,
        dropout: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.width = width
        self.pool_scales = tuple(pool_scales)
        self.dropout = dropout

    def build(self, shapes):
        def unit(kernel_size, name):
            return ConvNormRelu(self.width, kernel_size, dtype=self.dtype_policy, name=name)

        *laterals, last = (shape[-1] for shape in shapes)
        self.pooled = [unit(1, f"pooled_{scale}") for scale in self.pool_scales]
        self.pooled_fusion = unit(3, "pooled_fusion")
        self.laterals = [unit(1, f"lateral_{index}") for index in range(len(laterals))]
        self.outputs = [unit(3, f"output_{index}") for index in range(len(laterals))]
        self.fusion = unit(3, "fusion")
        self.channel_dropout = keras.layers.SpatialDropout2D(
            self.dropout, dtype=self.dtype_policy, name="dropout", **CHANNELS_LAST
        )
        self.logits = class_logits(self.num_classes, self.dtype_policy)
        channels = [(layer, last) for layer in self.pooled]
        channels += [(self.pooled_fusion, last + len(self.pooled) * self.width)]
        channels += list(zip(self.laterals, laterals, strict=True))
        channels += [(layer, self.width) for layer in (*self.outputs, self.logits, self.channel_dropout)]
        channels += [(self.fusion, len(shapes) * self.width)]
        for layer, count in channels:
            layer.build((None, None, None, count))

    def pool_pyramid(self, x, training=False):
        """Return the smallest map fused with its pooled versions, (batch, rows, columns, width)."""
        size = tuple(x.shape[1:3])
        levels = [x]
        for scale, layer in zip(self.pool_scales, self.pooled, strict=True):
            pooled = layer(adaptive_average_pool(x, (scale, scale)), training=training)
            levels.append(resize_bilinear(pooled, size))
        return self.pooled_fusion(ops.concatenate(levels, axis=-1), training=training)

    def call(self, maps, training=False):
        pooled = self.pool_pyramid(maps[-1], training)
        fused = [layer(x, training=training) for layer, x in zip(self.laterals, maps[:-1], strict=True)] + [pooled]
        for index in range(len(fused) - 1, 0, -1):
            fused[index - 1] = fused[index - 1] + resize_bilinear(fused[index], fused[index - 1].shape[1:3])
        levels = [layer(x, training=training) for layer, x in zip(self.outputs, fused[:-1], strict=True)] + [pooled]
        size = tuple(levels[0].shape[1:3])
        x = ops.concatenate([resize_bilinear(level, size) for level in levels], axis=-1)
        return self.logits(self.channel_dropout(self.fusion(x, training=training), training=training))

    def compute_output_shape(self, shapes):
        return (*shapes[0][:-1], self.num_classes)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "width": self.width,
            "pool_scales": list(self.pool_scales),
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable(package="keras_siamim")
class AuxiliaryHead(keras.layers.Layer):
    """Head that only training uses: one 3 x 3 convolution and class logits.

    Args:
        num_classes: int. Number of classes.
        width: int. Channels inside the head. Defaults to 256.
        dropout: float in [0, 1). Rate of dropped channels before the logits. Defaults to 0.1.
        **kwargs: Arguments of `keras.layers.Layer`.

    Example:
        >>> from keras_siamim.segmentation.heads import AuxiliaryHead
        >>> tuple(AuxiliaryHead(num_classes=5, width=6)(keras.ops.ones((2, 3, 3, 4))).shape)
        (2, 3, 3, 5)
    """

    def __init__(self, num_classes: int, width: int = 256, dropout: float = 0.1, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.width = width
        self.dropout = dropout
        self.unit = ConvNormRelu(width, 3, dtype=self.dtype_policy, name="unit")
        self.channel_dropout = keras.layers.SpatialDropout2D(
            dropout, dtype=self.dtype_policy, name="dropout", **CHANNELS_LAST
        )
        self.logits = class_logits(num_classes, self.dtype_policy)

    def build(self, input_shape):
        self.unit.build(input_shape)
        for layer in (self.channel_dropout, self.logits):
            layer.build((*input_shape[:-1], self.width))

    def call(self, x, training=False):
        return self.logits(self.channel_dropout(self.unit(x, training=training), training=training))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.num_classes)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "width": self.width,
            "dropout": self.dropout,
        }
