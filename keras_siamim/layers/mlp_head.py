"""The MLP on top of an instance-discrimination encoder."""

import keras
from keras import ops

from keras_siamim.layers.arguments import whole_number
from keras_siamim.layers.dense import Dense
from keras_siamim.layers.token_batch_norm import TokenBatchNorm


@keras.saving.register_keras_serializable(package="keras_siamim")
class MlpHead(keras.layers.Layer):
    """Dense layers without bias, each followed by BatchNorm, with ReLU between (MoCo v3, arXiv 2104.02057, section 4).

    The last BatchNorm has no affine part. Statistics are those of `TokenBatchNorm`.

    Args:
        widths: Output channels of every dense layer.
        **kwargs: As for every Keras layer.
    """

    def __init__(self, widths, **kwargs):
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
        """Create the weights for vectors (batch, width)."""
        for width, dense, norm in zip(self.widths, self.dense, self.norms, strict=True):
            dense.build(input_shape)
            input_shape = (*input_shape[:-1], width)
            norm.build(input_shape)

    def call(self, x, training=False):
        """(batch, width) to (batch, widths[-1])."""
        for index, (dense, norm) in enumerate(zip(self.dense, self.norms, strict=True)):
            x = norm(dense(ops.relu(x) if index else x), training=training)
        return x

    def compute_output_shape(self, input_shape):
        """(batch, widths[-1])."""
        return (*input_shape[:-1], self.widths[-1])

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "widths": self.widths}
