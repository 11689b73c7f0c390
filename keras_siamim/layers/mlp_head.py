"""Projection and prediction MLP of MoCo v3."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_siamim.arguments import whole_number
from keras_siamim.layers.dense import Dense
from keras_siamim.layers.token_batch_norm import TokenBatchNorm


@keras.saving.register_keras_serializable(package="keras_siamim")
class MlpHead(keras.layers.Layer):
    """MLP of dense layers without bias, each followed by BatchNorm (MoCo v3, arXiv 2104.02057, section 4).

    ReLU separates the layers. Every BatchNorm is a `TokenBatchNorm`; the last one has no learned scale and offset.

    Args:
        widths: Sequence of int. Output channels of the dense layers.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If a width is not a positive integer.

    Example:
        >>> from keras_siamim.layers import MlpHead
        >>> tuple(MlpHead([16, 4])(keras.ops.zeros((2, 8))).shape)
        (2, 4)
    """

    def __init__(self, widths: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.widths = [whole_number("widths", width) for width in widths]
        policy = self.dtype_policy
        self.dense = [
            Dense(width, use_bias=False, dtype=policy, name=f"dense_{index}") for index, width in enumerate(self.widths)
        ]
        self.norms = [
            TokenBatchNorm(affine=index < len(self.widths) - 1, dtype=policy, name=f"norm_{index}")
            for index in range(len(self.widths))
        ]

    def build(self, input_shape):
        for width, dense, norm in zip(self.widths, self.dense, self.norms, strict=True):
            dense.build(input_shape)
            input_shape = (*input_shape[:-1], width)
            norm.build(input_shape)

    def call(self, x, training=False):
        for index, (dense, norm) in enumerate(zip(self.dense, self.norms, strict=True)):
            x = norm(dense(ops.relu(x) if index else x), training=training)
        return x

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.widths[-1])

    def get_config(self):
        return {**super().get_config(), "widths": self.widths}
