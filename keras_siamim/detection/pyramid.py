"""Feature pyramids: of one map of a plain ViT (ViTDet, arXiv 2203.16527, section 3), and of the stages of a ConvNet."""

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
class FeaturePyramid(keras.layers.Layer):
    """Feature pyramid network (arXiv 1612.03144) on the four stages of a ConvNet, with a fifth level on top.

    Convolutions have a LayerNorm, as in `SimpleFeaturePyramid`, so that the heads are the same for every encoder.

    Args:
        width: int. Channels of the maps. Defaults to 256.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        maps: List of four tensors (batch, rows, columns, channels), the largest first, each half as large as the last.

    Returns:
        List of five maps (batch, rows, columns, width): the sizes of `maps`, and half the last, rounded up.

    Raises:
        ValueError: If `width` is not a positive integer.

    Example:
        >>> from keras_siamim.detection.pyramid import FeaturePyramid
        >>> maps = [keras.ops.ones((1, side, side, 4)) for side in (16, 8, 4, 2)]
        >>> [tuple(level.shape[1:3]) for level in FeaturePyramid(width=4)(maps)]
        [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
    """

    def __init__(self, width: int = 256, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = whole_number("width", width)

    def build(self, shapes):
        def unit(kernel_size, channels, name):
            layer = ConvNorm(self.width, kernel_size, dtype=self.dtype_policy, name=name)
            layer.build((None, None, None, channels))
            return layer

        levels = range(FIRST_LEVEL, FIRST_LEVEL + len(shapes))
        self.laterals = [
            unit(1, shape[-1], f"level_{level}_lateral") for level, shape in zip(levels, shapes, strict=True)
        ]
        self.outputs = [unit(3, self.width, f"level_{level}_output") for level in levels]

    def call(self, maps, training=False):
        fused = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]
        for level in range(len(fused) - 1, 0, -1):
            larger = ops.repeat(ops.repeat(fused[level], 2, axis=1), 2, axis=2)
            fused[level - 1] = fused[level - 1] + larger
        levels = [output(x) for output, x in zip(self.outputs, fused, strict=True)]
        return [*levels, levels[-1][:, ::2, ::2]]

    def compute_output_shape(self, shapes):
        levels = [(*shape[:3], self.width) for shape in shapes]
        batch, rows, columns, _ = levels[-1]
        return [*levels, (batch, -(-rows // 2), -(-columns // 2), self.width)]

    def get_config(self):
        return {**super().get_config(), "width": self.width}


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
