"""Heads of Mask R-CNN (arXiv 1703.06870) as in ViTDet: boxes and classes, and masks, of regions."""

from typing import Any

import keras
from keras import ops

from keras_siamim.arguments import whole_number
from keras_siamim.detection.layers import ConvNorm
from keras_siamim.layers import Dense
from keras_siamim.layers.convolution import CHANNELS_LAST

# Convolutions of each head.
_DEPTH = 4


def _normal(deviation):
    return keras.initializers.RandomNormal(stddev=deviation)


class _RegionHead(keras.layers.Layer):
    """Head that starts with four convolutions.

    Args:
        num_classes: int. Number of classes.
        width: int. Channels of the convolutions.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, num_classes: int, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_classes = whole_number("num_classes", num_classes)
        self.width = whole_number("width", width)

    def build_convolutions(self, shape):
        self.convolutions = [
            ConvNorm(self.width, 3, relu=True, dtype=self.dtype_policy, name=f"convolution_{index}")
            for index in range(_DEPTH)
        ]
        for index, layer in enumerate(self.convolutions):
            layer.build((None, *shape[2:4], self.width if index else shape[-1]))

    def convolve(self, x):
        """Return the map of each region, (batch * regions, rows, columns, width)."""
        x = ops.reshape(x, (-1, *x.shape[2:]))
        for layer in self.convolutions:
            x = layer(x)
        return x

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes, "width": self.width}


@keras.saving.register_keras_serializable(package="keras_siamim")
class BoxHead(_RegionHead):
    """Head from regions to classes and boxes: four convolutions, a dense layer, scores and deltas.

    Args:
        num_classes: int. Number of classes.
        width: int. Channels of the convolutions.
        dense_width: int. Channels of the dense layer.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        pooled: (batch, regions, rows, columns, channels) float.

    Returns:
        Scores (batch, regions, num_classes + 1) float32, logits with the background last, and deltas (batch, regions,
        num_classes, 4) float32.

    Example:
        >>> from keras_siamim.detection.heads import BoxHead
        >>> scores, deltas = BoxHead(num_classes=3, width=8, dense_width=16)(keras.ops.ones((2, 5, 7, 7, 4)))
        >>> tuple(scores.shape), tuple(deltas.shape)
        ((2, 5, 4), (2, 5, 3, 4))
    """

    def __init__(self, num_classes: int, width: int, dense_width: int, **kwargs: Any):
        super().__init__(num_classes, width, **kwargs)
        self.dense_width = whole_number("dense_width", dense_width)

    def build(self, shape):
        self.build_convolutions(shape)
        policy = self.dtype_policy
        uniform = keras.initializers.VarianceScaling(1.0, "fan_in", "uniform")
        self.dense = Dense(self.dense_width, kernel_initializer=uniform, dtype=policy, name="dense")
        self.dense.build((None, shape[2] * shape[3] * self.width))
        self.scores = Dense(self.num_classes + 1, kernel_initializer=_normal(0.01), dtype=policy, name="scores")
        self.deltas = Dense(4 * self.num_classes, kernel_initializer=_normal(0.001), dtype=policy, name="deltas")
        for layer in (self.scores, self.deltas):
            layer.build((None, self.dense_width))

    def call(self, pooled):
        return self.predict_from(self.features(pooled), pooled.shape[1])

    def features(self, pooled):
        """Return the features of all regions of a batch, (batch * regions, dense_width)."""
        x = self.convolve(pooled)
        # detectron2's order: channel, row, column.
        x = ops.reshape(ops.transpose(x, (0, 3, 1, 2)), (-1, x.shape[1] * x.shape[2] * self.width))
        return ops.relu(self.dense(x))

    def predict_from(self, features, regions):
        """Return scores and deltas from features, with `regions` regions per image."""
        scores = ops.reshape(self.scores(features), (-1, regions, self.num_classes + 1))
        deltas = ops.reshape(self.deltas(features), (-1, regions, self.num_classes, 4))
        return ops.cast(scores, "float32"), ops.cast(deltas, "float32")

    def get_config(self):
        return {**super().get_config(), "dense_width": self.dense_width}


@keras.saving.register_keras_serializable(package="keras_siamim")
class MaskHead(_RegionHead):
    """Head from regions to masks of every class: four convolutions, upsampling by two, logits.

    Args:
        num_classes: int. Number of classes.
        width: int. Channels of the convolutions.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        pooled: (batch, regions, rows, columns, channels) float.

    Returns:
        (batch, regions, 2 * rows, 2 * columns, num_classes) float32, logits.

    Example:
        >>> from keras_siamim.detection.heads import MaskHead
        >>> tuple(MaskHead(num_classes=3, width=8)(keras.ops.ones((2, 5, 14, 14, 4))).shape)
        (2, 5, 28, 28, 3)
    """

    def build(self, shape):
        self.build_convolutions(shape)
        self.upsampling = keras.layers.Conv2DTranspose(
            self.width,
            2,
            strides=2,
            activation="relu",
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
            dtype=self.dtype_policy,
            name="upsampling",
            **CHANNELS_LAST,
        )
        self.logits = keras.layers.Conv2D(
            self.num_classes,
            1,
            kernel_initializer=_normal(0.001),
            dtype=self.dtype_policy,
            name="logits",
            **CHANNELS_LAST,
        )
        for layer in (self.upsampling, self.logits):
            layer.build((None, None, None, self.width))

    def call(self, pooled):
        _, regions, rows, columns, _ = pooled.shape
        x = self.logits(self.upsampling(self.convolve(pooled)))
        return ops.cast(ops.reshape(x, (-1, regions, 2 * rows, 2 * columns, self.num_classes)), "float32")
