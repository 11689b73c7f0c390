"""Simple feature pyramid (ViTDet, arXiv 2203.16527, section 3): five scales from the last map of a plain ViT."""

from typing import Any

import keras
from keras import ops

from keras_siamim._backend.kernels import gelu
from keras_siamim.arguments import whole_number
from keras_siamim.detection.layers import ConvNorm
from keras_siamim.layers.block import make_norm
from keras_siamim.layers.convolution import CHANNELS_LAST, upsampling

# Strides of the maps over the patch size: the levels 2 to 6 of a ViT with patches of 16 pixels.
RELATIVE_STRIDES = (1 / 4, 1 / 2, 1, 2, 4)
# Number of the level with the smallest stride.
FIRST_LEVEL = 2


@keras.saving.register_keras_serializable(package="keras_siamim")
class SimpleFeaturePyramid(keras.layers.Layer):
    """Feature pyramid from one map, without top-down path.

    Args:
        width: int. Channels of the maps. Defaults to 256.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        x: (batch, rows, columns, channels) float.

    Returns:
        List of five maps (batch, rows, columns, width) with 4, 2, 1, 1/2 and 1/4 times the sides of `x`: the levels 2
        to 6. The fourth rounds odd sides down, the last one up.

    Raises:
        ValueError: If `width` is not a positive integer, or if `x` has fewer than 2 rows or columns.

    Example:
        >>> from keras_siamim.detection.pyramid import SimpleFeaturePyramid
        >>> [tuple(level.shape[1:3]) for level in SimpleFeaturePyramid(width=4)(keras.ops.ones((1, 6, 4, 8)))]
        [(24, 16), (12, 8), (6, 4), (3, 2), (2, 1)]
    """

    def __init__(self, width: int = 256, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = whole_number("width", width)

    def build(self, input_shape):
        channels, policy = input_shape[-1], self.dtype_policy
        self.level_2_up_first = upsampling(channels // 2, policy, "level_2_up_first")
        self.level_2_norm = make_norm("layer", policy, "level_2_norm")
        self.level_2_up_second = upsampling(channels // 4, policy, "level_2_up_second")
        self.level_3_up = upsampling(channels // 2, policy, "level_3_up")
        widths = (channels // 4, channels // 2, channels, channels)
        levels = range(FIRST_LEVEL, FIRST_LEVEL + len(widths))
        self.laterals = [ConvNorm(self.width, 1, dtype=policy, name=f"level_{level}_lateral") for level in levels]
        self.outputs = [ConvNorm(self.width, 3, dtype=policy, name=f"level_{level}_output") for level in levels]
        for layer, width in (
            (self.level_2_up_first, channels),
            (self.level_2_norm, channels // 2),
            (self.level_2_up_second, channels // 2),
            (self.level_3_up, channels),
            *zip(self.laterals, widths, strict=True),
            *((layer, self.width) for layer in self.outputs),
        ):
            layer.build((None, None, None, width))

    def call(self, x, training=False):
        if min(x.shape[1:3]) < 2:
            raise ValueError(f"`x` must have 2 or more rows and columns. Received: {tuple(x.shape[1:3])}.")
        scales = [
            self.level_2_up_second(gelu(self.level_2_norm(self.level_2_up_first(x)), training)),
            self.level_3_up(x),
            x,
            ops.max_pool(x, 2, 2, **CHANNELS_LAST),
        ]
        maps = [
            output(lateral(scale)) for scale, lateral, output in zip(scales, self.laterals, self.outputs, strict=True)
        ]
        return [*maps, maps[-1][:, ::2, ::2]]

    def compute_output_shape(self, input_shape):
        batch, rows, columns, _ = input_shape
        half = (rows // 2, columns // 2)
        sides = ((4 * rows, 4 * columns), (2 * rows, 2 * columns), (rows, columns), half)
        return [(batch, *side, self.width) for side in (*sides, tuple(-(-side // 2) for side in half))]

    def get_config(self):
        return {**super().get_config(), "width": self.width}
