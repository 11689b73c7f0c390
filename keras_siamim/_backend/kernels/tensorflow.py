"""TensorFlow kernels: XLA fuses elementwise operations, which TensorFlow runs one by one."""

import functools
import math
from collections.abc import Sequence

import tensorflow as tf
from keras import ops

from keras_siamim._backend.kernels.heads import attend
from keras_siamim._backend.kernels.updates import adamw_update, ema_update, update_one_by_one
from keras_siamim.types import Tensor

__all__ = ["adamw", "batch_norm", "dense", "ema_update", "gelu", "global_norm", "self_attention"]

_compiled_update = tf.function(adamw_update, jit_compile=True, autograph=False)
batch_norm = None


def _fused_update(weight, gradient, first, second, *scalars):
    # The compiled function would treat Keras's variables as constants, so pass tensors.
    return _compiled_update(*map(tf.convert_to_tensor, (weight, gradient, first, second)), *scalars)


adamw = functools.partial(update_one_by_one, _fused_update)


def global_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of all tensors together, float32."""
    return tf.linalg.global_norm([tf.cast(tensor, tf.float32) for tensor in tensors])


def dense(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `x @ kernel + bias`; x (..., inputs), kernel (inputs, outputs), bias (outputs,) or None."""
    x = ops.matmul(x, kernel)
    return x if bias is None else ops.add(x, bias)


def gelu(x: Tensor, training: bool = False) -> Tensor:
    """Return the exact GELU; in training it is fused by XLA and only `x` is stored for the gradient."""
    # Inference uses TensorFlow's own operation, so that exported graphs need no compiler.
    return _fused_gelu(x) if training and tf.is_tensor(x) else tf.nn.gelu(x, approximate=False)


@tf.custom_gradient
def _fused_gelu(x):
    return _gelu(x), lambda gradient: _gelu_gradient(x, gradient)


@tf.function(jit_compile=True, autograph=False)
def _gelu(x):
    return tf.nn.gelu(x, approximate=False)


@tf.function(jit_compile=True, autograph=False)
def _gelu_gradient(x, gradient):
    x, gradient, dtype = tf.cast(x, tf.float32), tf.cast(gradient, tf.float32), x.dtype
    density = tf.exp(-0.5 * tf.square(x)) * (1 / math.sqrt(2 * math.pi))
    return tf.cast(gradient * (0.5 * tf.math.erfc(-x * math.sqrt(0.5)) + x * density), dtype)


def self_attention(qkv: Tensor, num_heads: int) -> Tensor:
    """Compute self-attention: (batch, tokens, 3 * width), columns as in `split_heads`, to (batch, tokens, width)."""
    return attend(qkv, num_heads)
