"""JAX kernels: XLA compiles everything, so these only choose the products that XLA runs fastest."""

import functools

import jax
from keras import ops

from keras_siamim._backend.kernels.heads import attend
from keras_siamim._backend.kernels.updates import adamw_update, ema_update, global_norm, update_one_by_one
from keras_siamim.types import Tensor

__all__ = ["adamw", "batch_norm", "dense", "ema_update", "gelu", "global_norm", "self_attention"]

adamw = functools.partial(update_one_by_one, adamw_update)
batch_norm = None


def dense(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `x @ kernel + bias`; x (..., inputs), kernel (inputs, outputs), bias (outputs,) or None."""
    # Flat matrices, in the gradients too: on CPUs, XLA is 15% slower with separate axes for batch and tokens.
    kernel = ops.convert_to_tensor(kernel)
    y = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), kernel)
    if bias is not None:
        y = ops.add(y, bias)
    return ops.reshape(y, (*x.shape[:-1], kernel.shape[-1]))


def gelu(x: Tensor, training: bool = False) -> Tensor:
    """Return the exact GELU; in training, only `x` is stored for the gradient."""
    # By default, JAX stores two more tensors of this size, the largest of a model. Recomputing them is faster.
    return jax.checkpoint(_gelu)(x) if training and isinstance(x, jax.Array) else _gelu(x)


def _gelu(x):
    return ops.gelu(x, approximate=False)


def self_attention(qkv: Tensor, num_heads: int) -> Tensor:
    """Compute self-attention: (batch, tokens, 3 * width), columns as in `split_heads`, to (batch, tokens, width)."""
    if jax.default_backend() == "cpu":
        if qkv.dtype == "float16":  # on CPUs, XLA has no float16 product that accumulates in float32
            return ops.cast(attend(ops.cast(qkv, "float32"), num_heads), "float16")
        return attend(qkv, num_heads)
    _, tokens, columns = qkv.shape
    parts = ops.reshape(qkv, (-1, tokens, 3, num_heads, columns // 3 // num_heads))
    mixed = ops.dot_product_attention(*ops.unstack(parts, 3, axis=2))
    return ops.reshape(mixed, (-1, tokens, columns // 3))
