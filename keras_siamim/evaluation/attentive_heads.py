"""Attentive classification heads: one learned query pools the patch tokens, and a dense layer classifies the result.

The head of CAPI (arXiv 2502.08769, attentive probing): keys and values by one dense layer, no norm, no output
projection. Many heads are computed at once.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_siamim.arguments import whole_number
from keras_siamim.evaluation.features import in_data_format_of
from keras_siamim.ops.pooling import num_prefix_tokens

_CHANNELS_PER_HEAD = 64  # at least, for encoders of at least this width
_INITIAL_DEVIATION = 0.02


def attention_heads(width: int) -> int:
    """Return the number of attention heads: the largest divisor of `width` that is at most `width / 64`, at least 1.

    Args:
        width: Integer, 1 or more. Channels of a token.

    Example:
        >>> attention_heads(768), attention_heads(192), attention_heads(100), attention_heads(32)
        (12, 3, 1, 1)
    """
    limit = max(1, width // _CHANNELS_PER_HEAD)
    return next(heads for heads in range(limit, 0, -1) if width % heads == 0)


@keras.saving.register_keras_serializable(package="keras_siamim")
class AttentiveHeads(keras.layers.Layer):
    """Several independent attentive heads on the same tokens, computed at once in float32.

    Maps tokens (batch, patches, width) to logits (batch, probes, num_classes). The first axis of each weight is the
    probe. The columns of the fused kernel are ordered (k | v), each (head, channel).

    Args:
        num_probes: Integer, 1 or more. Number of independent heads.
        num_classes: Integer, 2 or more. Number of classes.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> tuple(AttentiveHeads(num_probes=3, num_classes=5)(np.zeros((2, 4, 8), "float32")).shape)
        (2, 3, 5)
    """

    def __init__(self, num_probes: int, num_classes: int, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.num_probes = whole_number("num_probes", num_probes)
        self.num_classes = whole_number("num_classes", num_classes)

    def build(self, tokens_shape):
        width, probes = tokens_shape[-1], self.num_probes
        self.num_heads = attention_heads(width)

        def weight(name, *shape):
            initializer = "zeros" if name.endswith("bias") else keras.initializers.RandomNormal(0, _INITIAL_DEVIATION)
            return self.add_weight(shape=(probes, *shape), initializer=initializer, name=name)

        self.query = weight("query", width)
        self.kv_kernel = weight("kv_kernel", width, 2 * width)
        self.kv_bias = weight("kv_bias", 2 * width)
        self.kernel = weight("kernel", width, self.num_classes)
        self.bias = weight("bias", self.num_classes)

    def call(self, tokens):
        tokens = ops.cast(tokens, "float32")
        width = tokens.shape[-1]
        probes, heads, channels = self.num_probes, self.num_heads, width // self.num_heads
        kernel = ops.reshape(self.kv_kernel, (probes, width, 2, heads, channels))
        key_kernel, value_kernel = (ops.transpose(kernel[:, :, part], (0, 2, 1, 3)) for part in (0, 1))
        # Keys and values of all tokens and probes would take 2 * probes times the memory of the tokens. With one query,
        # (x K + c) q = x (K q) + constant, and the softmax cancels the constant. Its weights sum to 1, so that they can
        # average the tokens before the value kernel.
        query = ops.reshape(self.query, (probes, heads, channels, 1)) * channels**-0.5
        directions = ops.reshape(ops.matmul(key_kernel, query), (probes * heads, width))
        logits = ops.transpose(ops.matmul(tokens, ops.transpose(directions)), (0, 2, 1))
        # Keras's softmax warns of a single patch, which raw pixels have.
        weights = ops.exp(logits - ops.logsumexp(logits, axis=-1, keepdims=True))
        pooled = ops.matmul(weights, tokens)
        pooled = ops.transpose(ops.reshape(pooled, (-1, probes, heads, width)), (1, 2, 0, 3))
        values = ops.transpose(ops.matmul(pooled, value_kernel), (0, 2, 1, 3))
        values = ops.reshape(values, (probes, -1, width)) + self.kv_bias[:, None, width:]
        classes = ops.matmul(values, self.kernel) + self.bias[:, None]
        return ops.transpose(classes, (1, 0, 2))

    def compute_output_shape(self, tokens_shape):
        return (tokens_shape[0], self.num_probes, self.num_classes)

    def get_config(self):
        return {**super().get_config(), "num_probes": self.num_probes, "num_classes": self.num_classes}


def build_heads(
    input_shape: tuple[int, ...], num_probes: int, num_classes: int, encoder: keras.Model | None = None, seed: int = 0
) -> keras.Model:
    """Create the model of all heads, after the encoder if given. All heads start from the same weights.

    Args:
        input_shape: Tuple of integers. Shape (height, width, 3) of the images or, without an encoder, (patches, width)
            of the tokens.
        num_probes: Integer. Number of independent heads.
        num_classes: Integer. Number of classes.
        encoder: `keras.Model` from images to tokens, class token first, which runs in inference mode, or `None` if the
            inputs are patch tokens. Defaults to `None`.
        seed: Integer. Seed of the initial weights, N(0, 0.02^2) with biases 0. Defaults to 0.

    Returns:
        A `keras.Model` from inputs to logits (batch, num_probes, num_classes) float32, whose last layer is
        `AttentiveHeads`.

    Example:
        >>> build_heads((4, 8), num_probes=2, num_classes=3).output_shape
        (None, 2, 3)
    """
    inputs = tokens = keras.Input(input_shape)
    if encoder is not None:
        tokens = ops.cast(encoder(in_data_format_of(encoder, inputs), training=False), "float32")
        tokens = tokens[:, num_prefix_tokens(encoder) :]
    heads = AttentiveHeads(num_probes, num_classes, name="heads")
    model = keras.Model(inputs, heads(tokens))
    # NumPy draws the weights, so that a seed gives the same heads on every backend.
    random = np.random.default_rng(seed)
    for variable in (heads.query, heads.kv_kernel, heads.kernel):
        values = random.normal(0, _INITIAL_DEVIATION, variable.shape[1:]).astype("float32")
        variable.assign(np.broadcast_to(values, variable.shape))
    return model
