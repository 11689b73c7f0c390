"""The operations that training time goes into, as fast as each framework can do them; exact in every case.

`dense(x, kernel, bias)`: `x @ kernel + bias`.
`gelu(x, training)`: exact (erf) GELU.
`self_attention(qkv, num_heads)`: multi-head attention, scaled by 1/sqrt(channels of a head), of fused projections.
`batch_norm(x, gamma, beta, mean, variance, momentum, epsilon)`: BatchNorm of a training batch, or `None` without one.
`adamw(weights, ...)`: a step of all weights and moments, see `updates.adamw_update`.
`global_norm(tensors)`: root of the sum of all squares, float32.
`ema_update(variables, others, rate)`: a share `rate` of the way from each variable to the other.
"""

import importlib

import keras

_kernels = importlib.import_module(f"{__name__}.{keras.config.backend()}")

dense = _kernels.dense
gelu = _kernels.gelu
self_attention = _kernels.self_attention
batch_norm = _kernels.batch_norm
adamw = _kernels.adamw
global_norm = _kernels.global_norm
ema_update = _kernels.ema_update

__all__ = ["adamw", "batch_norm", "dense", "gelu", "global_norm", "ema_update", "self_attention"]
