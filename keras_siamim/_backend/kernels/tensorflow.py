"""TensorFlow: its products are fast already; its elementwise operations run one by one, unless XLA fuses them."""

import functools
import math

import tensorflow as tf
from keras import ops

from keras_siamim._backend.kernels.heads import attend
from keras_siamim._backend.kernels.updates import adamw_update, ema_update, step_one_by_one

__all__ = ["adamw", "batch_norm", "dense", "gelu", "global_norm", "ema_update", "self_attention"]

_compiled_step = tf.function(adamw_update, jit_compile=True)
batch_norm = None


def _step_in_one_pass(weight, gradient, first, second, *scalars):
    # Tensors, as the compiled function would take Keras's variables for constants.
    return _compiled_step(*map(tf.convert_to_tensor, (weight, gradient, first, second)), *scalars)


adamw = functools.partial(step_one_by_one, _step_in_one_pass)


def global_norm(tensors):
    """Root of the sum of all squares of some tensors, float32."""
    return tf.linalg.global_norm([tf.cast(tensor, tf.float32) for tensor in tensors])


def dense(x, kernel, bias=None):
    """`x @ kernel + bias`; x (..., inputs), kernel (inputs, outputs), bias (outputs,) or None."""
    x = ops.matmul(x, kernel)
    return x if bias is None else ops.add(x, bias)


def gelu(x, training=False):
    """Exact GELU; in training fused by XLA, and keeping nothing but `x` for the gradient.

    Outside training it is TensorFlow's own, so that exported graphs need no compiler.
    """
    return _fused_gelu(x) if training and tf.is_tensor(x) else tf.nn.gelu(x, approximate=False)


@tf.custom_gradient
def _fused_gelu(x):
    return _gelu(x), lambda gradient: _gelu_gradient(x, gradient)


@tf.function(jit_compile=True)
def _gelu(x):
    return tf.nn.gelu(x, approximate=False)


@tf.function(jit_compile=True)
def _gelu_gradient(x, gradient):
    x, gradient, dtype = tf.cast(x, tf.float32), tf.cast(gradient, tf.float32), x.dtype
    density = tf.exp(-0.5 * tf.square(x)) * (1 / math.sqrt(2 * math.pi))
    return tf.cast(gradient * (0.5 * tf.math.erfc(-x * math.sqrt(0.5)) + x * density), dtype)


def self_attention(qkv, num_heads):
    """(batch, tokens, 3 * width), columns (q | k | v) each (head, channel), to (batch, tokens, width)."""
    return attend(qkv, num_heads)
