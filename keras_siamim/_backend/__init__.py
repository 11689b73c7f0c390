"""The only room that knows which framework computes: one small file each, with the same functions.

`MomentumTrainStep`: mixin of `keras.Model` whose `train_step` moves the target before Keras's own step.
`mean_over_replicas(x)`: mean of a tensor over the replicas that share a global batch, differentiable.
`concat_over_replicas(x)`: the tensors `x` of all replicas joined along axis 0; no gradient flows.
`replica_count()`: how many replicas share it. `replica_rank()`: the place of this one among them, from 0.
"""

import importlib

import keras

BACKENDS = ("tensorflow", "jax", "torch")

if keras.config.backend() not in BACKENDS:
    raise ImportError(f"keras_siamim trains on {', '.join(BACKENDS)}. Received: {keras.config.backend()!r}.")

_room = importlib.import_module(f"{__name__}.{keras.config.backend()}")

MomentumTrainStep = _room.MomentumTrainStep
mean_over_replicas = _room.mean_over_replicas
concat_over_replicas = _room.concat_over_replicas
replica_count = _room.replica_count
replica_rank = _room.replica_rank

__all__ = [
    "MomentumTrainStep",
    "concat_over_replicas",
    "mean_over_replicas",
    "replica_count",
    "replica_rank",
]
