"""The operations that training time goes into, as fast as each framework can do them; exact in every case.

`dense(x, kernel, bias)`: `x @ kernel + bias`.
`gelu(x, training)`: exact (erf) GELU.
`self_attention(qkv, num_heads)`: multi-head attention, scaled by 1/sqrt(channels of a head), of fused projections.
"""

import importlib

import keras

_room = importlib.import_module(f"{__name__}.{keras.config.backend()}")

dense = _room.dense
gelu = _room.gelu
self_attention = _room.self_attention

__all__ = ["dense", "gelu", "self_attention"]
