"""The operations that training time goes into, as fast as each framework can do them; exact in every case.

`dense(x, kernel, bias)`: `x @ kernel + bias`.
`gelu(x, training)`: exact (erf) GELU.
`self_attention(qkv, num_heads)`: multi-head attention, scaled by 1/sqrt(channels of a head), of fused projections.
`batch_norm(x, gamma, beta, mean, variance, momentum, epsilon)`: BatchNorm of a training batch, or `None` without one.
`adamw(weights, ...)`: a step of all weights and moments, see `updates.stepped`.
`global_norm(tensors)`: root of the sum of all squares, float32.
`move(variables, others, rate)`: a share `rate` of the way from each variable to the other.
"""

import importlib

import keras

_room = importlib.import_module(f"{__name__}.{keras.config.backend()}")

dense = _room.dense
gelu = _room.gelu
self_attention = _room.self_attention
batch_norm = _room.batch_norm
adamw = _room.adamw
global_norm = _room.global_norm
move = _room.move

__all__ = ["adamw", "batch_norm", "dense", "gelu", "global_norm", "move", "self_attention"]
