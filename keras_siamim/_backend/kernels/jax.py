"""JAX: XLA compiles everything; what counts is to hand it products that it knows."""

import functools

import jax
from keras import ops

from keras_siamim._backend.kernels.heads import attend
from keras_siamim._backend.kernels.updates import adamw_update, ema_update, global_norm, step_one_by_one

__all__ = ["adamw", "batch_norm", "dense", "gelu", "global_norm", "ema_update", "self_attention"]

adamw = functools.partial(step_one_by_one, adamw_update)
batch_norm = None


def dense(x, kernel, bias=None):
    """`x @ kernel + bias`; x (..., inputs), kernel (inputs, outputs), bias (outputs,) or None.

    As a product of two matrices, whose gradients are such products too: XLA's CPU is 15 % slower on (batch, tokens).
    """
    kernel = ops.convert_to_tensor(kernel)
    y = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), kernel)
    if bias is not None:
        y = ops.add(y, bias)
    return ops.reshape(y, (*x.shape[:-1], kernel.shape[-1]))


def gelu(x, training=False):
    """Exact GELU; in training nothing but `x` is kept for the gradient.

    Left alone, JAX keeps two more tensors of this size, the largest there are: to compute them again is faster.
    """
    return jax.checkpoint(_gelu)(x) if training and isinstance(x, jax.Array) else _gelu(x)


def _gelu(x):
    return ops.gelu(x, approximate=False)


def self_attention(qkv, num_heads):
    """(batch, tokens, 3 * width), columns (q | k | v) each (head, channel), to (batch, tokens, width).

    XLA's CPU has no float16 product that sums in float32: there float16 is computed in float32.
    """
    if jax.default_backend() == "cpu":
        if qkv.dtype == "float16":
            return ops.cast(attend(ops.cast(qkv, "float32"), num_heads), "float16")
        return attend(qkv, num_heads)
    _, tokens, columns = qkv.shape
    parts = ops.reshape(qkv, (-1, tokens, 3, num_heads, columns // 3 // num_heads))
    mixed = ops.dot_product_attention(*ops.unstack(parts, 3, axis=2))
    return ops.reshape(mixed, (-1, tokens, columns // 3))
