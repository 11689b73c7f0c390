"""The only room that knows which framework computes: one small file each, with the same functions.

`TrainStep`: mixin of `keras.Model` that puts `begin_step` and `end_step` around Keras's own training step.
`mean_over_replicas(x)`: mean of a tensor over the replicas that share a global batch, differentiable.
`concat_over_replicas(x)`: the tensors `x` of all replicas joined along axis 0; no gradient flows.
`replica_count()`: how many replicas share it. `replica_rank()`: the place of this one among them, from 0.
`share_of_loss(loss)`: the loss of this replica as what `reduce_gradients(gradients)` expects to be its derivative.
`agreed(verdict)`: whether a bool holds on all replicas.
`set_up(devices, layout)`: spread what comes over devices and processes, see `keras_siamim.distribution`.
`optimizer_replicas(model)`: replicas among which the model's optimiser must reduce gradients.
`parts_of_a_batch(model)`: into how many parts `fit` cuts each batch that this process hands it.
`start_alike(model)`: give the model of all processes, and its optimiser, the values of the first.
"""

import importlib

import keras

from keras_siamim._backend.replicas import Distribution

BACKENDS = ("tensorflow", "jax", "torch")

if keras.config.backend() not in BACKENDS:
    raise ImportError(f"keras_siamim trains on {', '.join(BACKENDS)}. Received: {keras.config.backend()!r}.")

_room = importlib.import_module(f"{__name__}.{keras.config.backend()}")

TrainStep = _room.TrainStep
mean_over_replicas = _room.mean_over_replicas
concat_over_replicas = _room.concat_over_replicas
replica_count = _room.replica_count
replica_rank = _room.replica_rank
share_of_loss = _room.share_of_loss
reduce_gradients = _room.reduce_gradients
agreed = _room.agreed
set_up = _room.set_up
optimizer_replicas = _room.optimizer_replicas
parts_of_a_batch = _room.parts_of_a_batch
start_alike = _room.start_alike

__all__ = [
    "Distribution",
    "TrainStep",
    "agreed",
    "concat_over_replicas",
    "mean_over_replicas",
    "optimizer_replicas",
    "parts_of_a_batch",
    "reduce_gradients",
    "replica_count",
    "replica_rank",
    "set_up",
    "share_of_loss",
    "start_alike",
]
