"""Transformer block and its MLP."""

from collections.abc import Callable
from typing import Any

import keras

from keras_siamim._backend.kernels import gelu
from keras_siamim.arguments import number_in, whole_number
from keras_siamim.layers.attention import Attention
from keras_siamim.layers.dense import Dense
from keras_siamim.layers.regularization import LayerScale, StochasticDepth
from keras_siamim.layers.token_batch_norm import TokenBatchNorm
from keras_siamim.types import Tensor

NORMS = ("layer", "batch")


def make_norm(norm: str, dtype: str | keras.DTypePolicy, name: str) -> keras.Layer:
    """Create a normalization layer.

    Args:
        norm: `"layer"` (LayerNorm with epsilon 1e-6) or `"batch"` (`TokenBatchNorm`).
        dtype: dtype or `keras.DTypePolicy` of the layer.
        name: str. Name of the layer.

    Raises:
        ValueError: If `norm` is neither.

    Example:
        >>> make_norm("batch", "float32", "norm_1").name
        'norm_1'
    """
    if norm == "layer":
        return keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype, name=name)
    if norm == "batch":
        return TokenBatchNorm(dtype=dtype, name=name)
    raise ValueError(f"`norm` must be one of {NORMS}. Received: {norm!r}.")


@keras.saving.register_keras_serializable(package="keras_siamim")
class Mlp(keras.layers.Layer):
    """MLP of a transformer block: dense layer, exact (erf) GELU, dense layer. The output is as wide as the input.

    Args:
        hidden_width: int. Channels between the two dense layers.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `hidden_width` is not a positive integer.

    Example:
        >>> from keras_siamim.layers import Mlp
        >>> tuple(Mlp(hidden_width=32)(keras.ops.zeros((1, 5, 8))).shape)
        (1, 5, 8)
    """

    def __init__(self, hidden_width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.hidden_width = whole_number("hidden_width", hidden_width)

    def build(self, input_shape):
        self.expand = Dense(self.hidden_width, dtype=self.dtype_policy, name="expand")
        self.expand.build(input_shape)
        self.reduce = Dense(input_shape[-1], dtype=self.dtype_policy, name="reduce")
        self.reduce.build((*input_shape[:-1], self.hidden_width))

    def call(self, x, training=False):
        return self.reduce(gelu(self.expand(x), training))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "hidden_width": self.hidden_width}


@keras.saving.register_keras_serializable(package="keras_siamim")
class TransformerBlock(keras.layers.Layer):
    """Pre-norm transformer block: `x += attention(norm_1(x)); x += mlp(norm_2(x))`.

    LayerScale and stochastic depth apply to both residual branches.

    Args:
        num_heads: int. Attention heads, a divisor of the width.
        mlp_ratio: float above 0. Hidden width of the MLP over the width. Defaults to 4.
        norm: `"layer"` (LayerNorm) or `"batch"` (`TokenBatchNorm`). Defaults to `"layer"`.
        layer_scale_init: float. Initial value of LayerScale. Defaults to None, no LayerScale.
        drop_path_rate: float in [0, 1). Rate of stochastic depth. Defaults to 0.
        attention: `keras.layers.Layer` from tokens to tokens of the same shape. Defaults to None,
            `Attention(num_heads)`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        gradient_checkpointing: bool. Whether training recomputes the activations of attention and MLP for their
            gradients instead of storing them (arXiv 1604.06174). Defaults to False. Not serialized, since results do
            not change.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> from keras_siamim.layers import TransformerBlock
        >>> block = TransformerBlock(num_heads=2, layer_scale_init=0.1)
        >>> tuple(block(keras.ops.zeros((1, 5, 8))).shape)
        (1, 5, 8)
    """

    def __init__(
        self,
        num_heads: int,
        mlp_ratio: float = 4,
        norm: str = "layer",
        layer_scale_init: float | None = None,
        drop_path_rate: float = 0.0,
        attention: keras.layers.Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads = whole_number("num_heads", num_heads)
        self.mlp_ratio = number_in("mlp_ratio", mlp_ratio, "(0, inf)")
        self.norm = norm
        self.layer_scale_init = layer_scale_init
        self.drop_path_rate = drop_path_rate
        self.gradient_checkpointing = False
        self.norm_1 = make_norm(norm, self.dtype_policy, "norm_1")
        self.attention = attention or Attention(num_heads, dtype=self.dtype_policy, name="attention")
        self.norm_2 = make_norm(norm, self.dtype_policy, "norm_2")
        self.scale_1 = self.scale_2 = None
        if layer_scale_init is not None:
            self.scale_1 = LayerScale(layer_scale_init, dtype=self.dtype_policy, name="scale_1")
            self.scale_2 = LayerScale(layer_scale_init, dtype=self.dtype_policy, name="scale_2")
        self.drop_path = StochasticDepth(drop_path_rate, dtype=self.dtype_policy, name="drop_path")

    def build(self, input_shape):
        self.mlp = Mlp(int(input_shape[-1] * self.mlp_ratio), dtype=self.dtype_policy, name="mlp")
        for layer in (self.norm_1, self.attention, self.norm_2, self.mlp, self.scale_1, self.scale_2, self.drop_path):
            if layer is not None:
                layer.build(input_shape)

    def call(self, x, training=False):
        attention, mlp = self.attention, lambda x: self.mlp(x, training=training)
        if self.gradient_checkpointing and training:
            # Norms and stochastic depth stay outside: recomputing them would update their state twice.
            attention, mlp = keras.remat(lambda x: self.attention(x)), keras.remat(mlp)
        x = x + self._residual(attention(self._norm(self.norm_1, x, training)), self.scale_1, training)
        return x + self._residual(mlp(self._norm(self.norm_2, x, training)), self.scale_2, training)

    def attention_keys(self, x: Tensor) -> Tensor:
        """Return the keys of the block's attention for its input (batch, tokens, width), in inference mode."""
        return self.attention.keys(self._norm(self.norm_1, x, training=False))

    def class_attention(self, x: Tensor) -> Tensor:
        """Return the attention of the class token for the block's input, (batch, heads, tokens), in inference mode."""
        return self.attention.class_weights(self._norm(self.norm_1, x, training=False))

    def _norm(self, norm, x, training):
        return norm(x, training=training) if self.norm == "batch" else norm(x)

    def _residual(self, x, scale, training):
        if scale is not None:
            x = scale(x)
        return self.drop_path(x, training=training)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "mlp_ratio": self.mlp_ratio,
            "norm": self.norm,
            "layer_scale_init": self.layer_scale_init,
            "drop_path_rate": self.drop_path_rate,
            "attention": None
            if type(self.attention) is Attention
            else keras.saving.serialize_keras_object(self.attention),
        }

    @classmethod
    def from_config(cls, config):
        attention = config.get("attention")
        return cls(**{**config, "attention": attention and keras.saving.deserialize_keras_object(attention)})


def encoder_blocks(
    depth: int,
    num_heads: int,
    mlp_ratio: float,
    layer_scale_init: float | None,
    drop_path_rate: float,
    dtype: str | keras.DTypePolicy,
    attention: Callable[[int], keras.layers.Layer] | None = None,
) -> list[TransformerBlock]:
    """Create the blocks of an encoder; the rate of stochastic depth rises linearly from 0 at the first.

    Args:
        depth: int. Number of blocks.
        num_heads: int. Attention heads.
        mlp_ratio: float. Hidden width of the MLPs over the width.
        layer_scale_init: float. Initial value of LayerScale; None for no LayerScale.
        drop_path_rate: float in [0, 1). Rate of stochastic depth of the last block.
        dtype: dtype or `keras.DTypePolicy` of the layers.
        attention: Function from the index of a block to its attention layer. Defaults to None, `Attention(num_heads)`.

    Example:
        >>> [block.drop_path_rate for block in encoder_blocks(3, 2, 4, None, 0.5, "float32")]
        [0.0, 0.25, 0.5]
    """
    return [
        TransformerBlock(
            num_heads,
            mlp_ratio,
            layer_scale_init=layer_scale_init,
            drop_path_rate=drop_path_rate * index / max(depth - 1, 1),
            attention=attention and attention(index),
            dtype=dtype,
            name=f"block_{index}",  # layer-wise learning rate decay looks for these names
        )
        for index in range(depth)
    ]
