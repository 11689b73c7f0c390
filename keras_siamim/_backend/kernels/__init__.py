"""Kernels: the operations that take most of the training time, tuned for each backend; all are exact.

`dense(x, kernel, bias)`: `x @ kernel + bias`.
`gelu(x, training)`: exact (erf) GELU.
`self_attention(qkv, num_heads)`: multi-head attention of fused projections, scaled by 1/sqrt(channels per head).
`biased_self_attention(qkv, num_heads, bias)`: the same with a bias (heads, tokens, tokens) added to the scaled logits.
`batch_norm(x, gamma, beta, mean, variance, momentum, epsilon)`: BatchNorm in training mode; None on TensorFlow and JAX.
`adamw(weights, ...)`: one AdamW step of all weights and moments, see `updates.adamw_update`.
`global_norm(tensors)`: Euclidean norm of all tensors together, float32.
`ema_update(variables, others, rate)`: exponential moving average, `variable += rate * (other - variable)`.
"""

import importlib

import keras

from keras_siamim._backend.kernels.heads import attend as biased_self_attention

_kernels = importlib.import_module(f"{__name__}.{keras.config.backend()}")

dense = _kernels.dense
gelu = _kernels.gelu
self_attention = _kernels.self_attention
batch_norm = _kernels.batch_norm
adamw = _kernels.adamw
global_norm = _kernels.global_norm
ema_update = _kernels.ema_update

__all__ = [
    "adamw",
    "batch_norm",
    "biased_self_attention",
    "dense",
    "ema_update",
    "gelu",
    "global_norm",
    "self_attention",
]
