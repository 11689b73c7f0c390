"""ConvNeXt V2 block and its global response normalization."""

from typing import Any

import keras
from keras import ops

from keras_siamim._backend.kernels import gelu
from keras_siamim.layers.dense import Dense
from keras_siamim.layers.regularization import StochasticDepth
from keras_siamim.ops import cells_to_map, map_to_cells
from keras_siamim.types import Tensor

# Norms below this are rounding, and have no gradient: that of a square root is infinite at zero.
_TINY = 1e-24
MLP_RATIO = 4
KERNEL_SIZE = 7


@keras.saving.register_keras_serializable(package="keras_siamim")
class GlobalResponseNorm(keras.layers.Layer):
    """Global response normalization (ConvNeXt V2, arXiv 2301.00808, section 3).

    The norm of each channel over the positions of an image, divided by the mean norm of its channels, scales the
    channel: `y = scale * x * g / (mean(g) + epsilon) + offset + x`, with `g` the norms. Scale and offset start at zero.
    Norms are computed in float32.

    Args:
        epsilon: float. Added to the mean norm. Defaults to 1e-6.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        x: (batch, positions, channels).

    Returns:
        (batch, positions, channels).

    Example:
        >>> from keras_siamim.layers import GlobalResponseNorm
        >>> tuple(GlobalResponseNorm()(keras.ops.ones((1, 5, 8))).shape)
        (1, 5, 8)
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="scale")
        self.offset = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="offset")

    def call(self, x):
        energy = ops.sum(ops.square(ops.cast(x, "float32")), axis=1, keepdims=True)
        norms = ops.sqrt(ops.maximum(energy, _TINY))
        relative = norms / (ops.mean(norms, axis=-1, keepdims=True) + self.epsilon)
        return self.scale * (x * ops.cast(relative, x.dtype)) + self.offset + x

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="keras_siamim")
class ConvNeXtBlock(keras.layers.Layer):
    """ConvNeXt V2 block: `x += mlp(norm(depthwise(x)))`, with a 7x7 depthwise convolution.

    The MLP is a dense layer to four times the width, exact GELU, `GlobalResponseNorm` and a dense layer back. Only the
    convolution mixes cells of the grid, so that all other operations run on the visible cells alone. The convolution
    sees zeros in place of masked cells.

    Args:
        drop_path_rate: float in [0, 1). Rate of stochastic depth. Defaults to 0.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        gradient_checkpointing: bool. Whether training recomputes the activations of the MLP for their gradients
            instead of storing them. Defaults to False. Not serialized, since results do not change.

    Call arguments:
        x: (batch, cells * height * width, channels). Positions cell by cell, row by row within a cell.
        cell: (height, width) of a cell in positions.
        grid: (rows, columns) of cells in the image.
        visible_ids: (batch, cells) int32. Indices of the cells in the grid. Defaults to None, all in order.
        training: bool. Whether to apply stochastic depth. Defaults to False.

    Returns:
        (batch, cells * height * width, channels).

    Raises:
        ValueError: If `drop_path_rate` is out of its range.

    Example:
        >>> from keras_siamim.layers import ConvNeXtBlock
        >>> tuple(ConvNeXtBlock()(keras.ops.zeros((1, 64, 6)), cell=(8, 8), grid=(1, 1)).shape)
        (1, 64, 6)
    """

    def __init__(self, drop_path_rate: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.drop_path_rate = drop_path_rate
        self.gradient_checkpointing = False
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=self.dtype_policy, name="norm")
        self.response_norm = GlobalResponseNorm(dtype=self.dtype_policy, name="response_norm")
        self.drop_path = StochasticDepth(drop_path_rate, dtype=self.dtype_policy, name="drop_path")

    def build(self, input_shape):
        width, policy = input_shape[-1], self.dtype_policy
        initializer = keras.initializers.TruncatedNormal(stddev=0.02)  # ConvNeXt's (arXiv 2201.03545, appendix A)
        self.depthwise = keras.layers.DepthwiseConv2D(
            KERNEL_SIZE,
            padding="same",
            data_format="channels_last",
            depthwise_initializer=initializer,
            dtype=policy,
            name="depthwise",
        )
        self.expand = Dense(MLP_RATIO * width, kernel_initializer=initializer, dtype=policy, name="expand")
        self.reduce = Dense(width, kernel_initializer=initializer, dtype=policy, name="reduce")
        self.depthwise.build((None, None, None, width))
        self.norm.build(input_shape)
        self.expand.build(input_shape)
        hidden = (*input_shape[:-1], MLP_RATIO * width)
        self.response_norm.build(hidden)
        self.reduce.build(hidden)
        self.drop_path.build(input_shape)

    def call(self, x, cell, grid, visible_ids=None, training=False):
        maps = self.depthwise(cells_to_map(x, cell, grid, visible_ids))
        mlp = lambda x: self._mlp(x, training)  # noqa: E731
        if self.gradient_checkpointing and training:
            # Stochastic depth stays outside: recomputing it would update its state twice.
            mlp = keras.remat(mlp)
        return x + self.drop_path(mlp(map_to_cells(maps, cell, grid, visible_ids)), training=training)

    def _mlp(self, x: Tensor, training: bool) -> Tensor:
        return self.reduce(self.response_norm(gelu(self.expand(self.norm(x)), training)))

    def compute_output_shape(self, input_shape, *args, **kwargs):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "drop_path_rate": self.drop_path_rate}
