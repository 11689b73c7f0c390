"""The transformer block."""

import keras

from keras_siamim._backend.kernels import gelu
from keras_siamim.layers.arguments import positive_number, whole_number
from keras_siamim.layers.attention import Attention
from keras_siamim.layers.dense import Dense
from keras_siamim.layers.regularization import LayerScale, StochasticDepth
from keras_siamim.layers.token_batch_norm import TokenBatchNorm

NORMS = ("layer", "batch")


def make_norm(norm, dtype, name):
    """The norm called `"layer"` (LayerNorm, epsilon 1e-6) or `"batch"` (`TokenBatchNorm`).

    Raises:
        ValueError: For another name.
    """
    if norm == "layer":
        return keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype, name=name)
    if norm == "batch":
        return TokenBatchNorm(dtype=dtype, name=name)
    raise ValueError(f"A norm must be one of {NORMS}. Received: {norm!r}.")


@keras.saving.register_keras_serializable(package="keras_siamim")
class Mlp(keras.layers.Layer):
    """Dense, exact (erf) GELU, dense.

    Args:
        hidden_width: Channels between the two dense layers.
        **kwargs: As for every Keras layer.
    """

    def __init__(self, hidden_width, **kwargs):
        super().__init__(**kwargs)
        self.hidden_width = whole_number("hidden_width", hidden_width)

    def build(self, input_shape):
        """Create both dense layers."""
        self.expand = Dense(self.hidden_width, dtype=self.dtype_policy, name="expand")
        self.expand.build(input_shape)
        self.reduce = Dense(input_shape[-1], dtype=self.dtype_policy, name="reduce")
        self.reduce.build((*input_shape[:-1], self.hidden_width))

    def call(self, x, training=False):
        """(..., width) to the same."""
        return self.reduce(gelu(self.expand(x), training))

    def compute_output_shape(self, input_shape):
        """As the input."""
        return input_shape

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "hidden_width": self.hidden_width}


@keras.saving.register_keras_serializable(package="keras_siamim")
class TransformerBlock(keras.layers.Layer):
    """Pre-norm transformer block: `x += attention(norm_1(x)); x += mlp(norm_2(x))`.

    Args:
        num_heads: Attention heads; must divide the width.
        mlp_ratio: Hidden width of the MLP over the width.
        norm: `"layer"` or `"batch"`, see `make_norm`.
        layer_scale_init: Initial value of LayerScale, or None for none.
        drop_path_rate: Stochastic depth of both residual branches.
        **kwargs: As for every Keras layer.

    Attributes:
        gradient_checkpointing: bool. Whether training recomputes the activations of attention and MLP for their
            gradients instead of storing them (arXiv 1604.06174). Defaults to False. Not serialized, since results do
            not change.
    """

    def __init__(self, num_heads, mlp_ratio=4, norm="layer", layer_scale_init=None, drop_path_rate=0.0, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = whole_number("num_heads", num_heads)
        self.mlp_ratio = positive_number("mlp_ratio", mlp_ratio)
        self.norm = norm
        self.layer_scale_init = layer_scale_init
        self.drop_path_rate = drop_path_rate
        self.gradient_checkpointing = False
        self.norm_1 = make_norm(norm, self.dtype_policy, "norm_1")
        self.attention = Attention(num_heads, dtype=self.dtype_policy, name="attention")
        self.norm_2 = make_norm(norm, self.dtype_policy, "norm_2")
        self.scale_1 = self.scale_2 = None
        if layer_scale_init is not None:
            self.scale_1 = LayerScale(layer_scale_init, dtype=self.dtype_policy, name="scale_1")
            self.scale_2 = LayerScale(layer_scale_init, dtype=self.dtype_policy, name="scale_2")
        self.drop_path = StochasticDepth(drop_path_rate, dtype=self.dtype_policy, name="drop_path")

    def build(self, input_shape):
        """Create the weights for tokens (batch, tokens, width)."""
        self.mlp = Mlp(int(input_shape[-1] * self.mlp_ratio), dtype=self.dtype_policy, name="mlp")
        for layer in (self.norm_1, self.attention, self.norm_2, self.mlp, self.scale_1, self.scale_2, self.drop_path):
            if layer is not None:
                layer.build(input_shape)

    def call(self, x, training=False):
        """(batch, tokens, width) to the same."""
        attention, mlp = self.attention, lambda x: self.mlp(x, training=training)
        if self.gradient_checkpointing and training:
            # Norms and stochastic depth stay outside, since they count what they have seen and drawn.
            attention, mlp = keras.remat(lambda x: self.attention(x)), keras.remat(mlp)
        x = x + self._residual(attention(self._norm(self.norm_1, x, training)), self.scale_1, training)
        return x + self._residual(mlp(self._norm(self.norm_2, x, training)), self.scale_2, training)

    def _norm(self, norm, x, training):
        return norm(x, training=training) if self.norm == "batch" else norm(x)

    def _residual(self, x, scale, training):
        if scale is not None:
            x = scale(x)
        return self.drop_path(x, training=training)

    def compute_output_shape(self, input_shape):
        """As the input."""
        return input_shape

    def get_config(self):
        """Constructor arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "mlp_ratio": self.mlp_ratio,
            "norm": self.norm,
            "layer_scale_init": self.layer_scale_init,
            "drop_path_rate": self.drop_path_rate,
        }
