"""Backend abstraction: the only package that calls TensorFlow, JAX or PyTorch to compute. One file per backend.

`TrainStep`: mixin of `keras.Model` that calls `prepare_batch` and `begin_step` before Keras's own training step, and
`end_step` after it.
`mean_over_replicas(x)`: mean of a tensor over the replicas that share a global batch, differentiable.
`concat_over_replicas(x)`: the tensors `x` of all replicas joined along axis 0, without gradient.
`replica_count()`: number of replicas that share a global batch. `replica_rank()`: index of this one, from 0.
`scale_loss_for_replicas(loss)`: the loss of this replica, scaled for `reduce_gradients(gradients)`.
`all_replicas_true(condition)`: True if a bool scalar is True on every replica.
`set_up(devices, layout)`: distribute training over devices and processes, see `keras_siamim.distribution`.
`gradient_replicas(model)`: number of replicas among which the model's optimizer must reduce gradients.
`local_batch_shards(model)`: number of shards into which `fit` splits each batch of this process.
`broadcast_initial_state(model)`: copy the state of the first process's model and optimizer to all processes.
`compile_inference(layer, function)`: `function`, which calls `layer`, compiled for NumPy arrays; it changes no state.
`has_accelerator()`: whether training runs on a GPU or TPU.
`free_accelerator_memory()`: free bytes of the GPU or TPU, or None if they are unknown.
`tensorflow.load_saved_model(path)`: a function that runs an exported encoder by TensorFlow, for all backends.
"""

import importlib

import keras

from keras_siamim._backend.replicas import Distribution

BACKENDS = ("tensorflow", "jax", "torch")

if keras.config.backend() not in BACKENDS:
    raise ImportError(f"`KERAS_BACKEND` must be one of {', '.join(BACKENDS)}. Received: {keras.config.backend()!r}.")

_backend = importlib.import_module(f"{__name__}.{keras.config.backend()}")

TrainStep = _backend.TrainStep
mean_over_replicas = _backend.mean_over_replicas
concat_over_replicas = _backend.concat_over_replicas
replica_count = _backend.replica_count
replica_rank = _backend.replica_rank
scale_loss_for_replicas = _backend.scale_loss_for_replicas
reduce_gradients = _backend.reduce_gradients
all_replicas_true = _backend.all_replicas_true
set_up = _backend.set_up
gradient_replicas = _backend.gradient_replicas
local_batch_shards = _backend.local_batch_shards
broadcast_initial_state = _backend.broadcast_initial_state
compile_inference = _backend.compile_inference
has_accelerator = _backend.has_accelerator
free_accelerator_memory = _backend.free_accelerator_memory

__all__ = [
    "Distribution",
    "TrainStep",
    "all_replicas_true",
    "compile_inference",
    "concat_over_replicas",
    "mean_over_replicas",
    "free_accelerator_memory",
    "gradient_replicas",
    "has_accelerator",
    "local_batch_shards",
    "reduce_gradients",
    "replica_count",
    "replica_rank",
    "set_up",
    "scale_loss_for_replicas",
    "broadcast_initial_state",
]
