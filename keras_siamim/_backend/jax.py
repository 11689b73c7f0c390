"""JAX backend: a training step maps `state` to a new `state`.

Arrays are global, so the functions that reduce over replicas are no-ops.
"""

import os
from collections.abc import Callable
from typing import Any

import jax
import keras
import numpy as np

from keras_siamim._backend.replicas import Distribution
from keras_siamim.types import Tensor


class TrainStep:
    """Mixin that calls `prepare_batch`, `begin_step`, Keras's step and `end_step`, see `objectives.base.Objective`."""

    def train_step(self, state, data):
        data = self.prepare_batch(data)
        # `state` holds Keras's four lists of arrays: trainable, non-trainable, optimizer and metrics variables.
        with self._stateless_scope(state) as scope:
            before = [keras.ops.convert_to_tensor(variable) for variable in self.rollback_variables]
            self.begin_step()
        state = self._updated_state(scope, state)
        _, after = super().train_step(state, data)
        counter = [variable is self.step_counter for variable in self.optimizer.variables].index(True)
        with self._stateless_scope(after) as scope:
            self.end_step(before, taken=after[2][counter] != state[2][counter])
            logs = self.step_logs()
        return logs, self._updated_state(scope, after)

    def _stateless_scope(self, state):
        variables = (self.trainable_variables, self.non_trainable_variables, (), self.metrics_variables)
        mapping = [
            pair
            for each, arrays in zip(variables, state, strict=True)
            if each
            for pair in zip(each, arrays, strict=True)
        ]
        return keras.StatelessScope(state_mapping=mapping)

    def _updated_state(self, scope, state):
        trainable, _, optimizer, _ = state
        non_trainable = [scope.get_current_value(variable) for variable in self.non_trainable_variables]
        return trainable, non_trainable, optimizer, [scope.get_current_value(v) for v in self.metrics_variables]


def replica_count() -> int:
    """Return 1: a JAX program computes on the global batch."""
    return 1


def mean_over_replicas(x: Tensor) -> Tensor:
    """No-op: statistics of a global array span all devices."""
    return x


def replica_rank() -> int:
    """Return 0: a JAX program computes on the global batch."""
    return 0


def concat_over_replicas(x: Tensor) -> Tensor:
    """Stop the gradient; arrays are global already."""
    return jax.lax.stop_gradient(x)


def scale_loss_for_replicas(loss: Tensor) -> Tensor:
    """No-op: the loss is that of the global batch."""
    return loss


def reduce_gradients(gradients: list[Tensor]) -> list[Tensor]:
    """No-op: gradients are those of the global batch."""
    return gradients


def all_replicas_true(condition: Tensor) -> Tensor:
    """No-op: JAX runs one global program."""
    return condition


def gradient_replicas(model: keras.Model) -> int:
    """Return 1: gradients are those of the global batch."""
    return 1


def local_batch_shards(model: keras.Model) -> int:
    """Return the number of shards into which Keras's distribution splits the batch of this process."""
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else max(1, distribution.num_model_replicas // distribution.num_processes)


def broadcast_initial_state(model: keras.Model) -> None:
    """No-op: processes create equal global arrays from the same seed, and JAX verifies that."""


def compile_inference(layer: keras.Layer, function: Callable) -> Callable:
    """Compile a function that calls a layer in inference mode. It changes no state, so that training goes on as before.

    Args:
        layer: Built layer. Each call reads the variables that it has at that time.
        function: Function from tensors, or dictionaries of tensors, to tensors or structures of them.

    Returns:
        The same function from NumPy arrays to NumPy arrays.
    """
    variables = layer.variables

    @jax.jit
    def compiled(values, arrays):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*arrays)

    def run(*arrays):
        return jax.tree.map(np.asarray, compiled([variable.value for variable in variables], arrays))

    return run


def has_accelerator() -> bool:
    """Return True if training runs on a GPU or TPU."""
    return jax.default_backend() != "cpu"


def free_accelerator_memory() -> float | None:
    """Return the free memory of the first GPU or TPU in bytes, or None without one."""
    found = jax.local_devices()[0].memory_stats() or {}
    return float(found["bytes_limit"] - found.get("bytes_in_use", 0)) if "bytes_limit" in found else None


def set_up(devices: int | None = None, layout: tuple[int, dict[str, Any]] | None = None) -> Distribution:
    """Join the `JAX_NUM_PROCESSES` processes of the run and distribute over their devices.

    Args:
        devices: int. Number of devices of this process to use. With several processes it must be the number of all
            devices. Defaults to all.
        layout: Tuple of the number of devices that share one copy of the model, and the rules of a
            `keras.distribution.LayoutMap` (path patterns to axes). Defaults to None, data parallelism.

    Returns:
        A `Distribution`.

    Raises:
        ValueError: If there are fewer devices, or if `layout` does not divide the devices of a process.
    """
    processes = int(os.environ.get("JAX_NUM_PROCESSES", "1"))
    if processes > 1 and not jax.distributed.is_initialized():
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize(
            os.environ["JAX_COORDINATOR_ADDRESS"], processes, int(os.environ["JAX_PROCESS_ID"])
        )
    names = keras.distribution.list_devices()
    chosen = names if devices is None or processes > 1 else names[:devices]
    if devices is not None and devices != len(chosen):
        raise ValueError(f"`devices` must be at most {len(names)}, the number of devices. Received: {devices}.")
    shards, rules = (1, {}) if layout is None else layout
    own = jax.local_device_count() if processes > 1 else len(chosen)
    if own % shards:
        raise ValueError(f"`model_parallel` must divide the number of devices per process, {own}. Received: {shards}.")
    if len(chosen) == 1:
        return Distribution()
    if shards == 1:
        strategy = keras.distribution.DataParallel(devices=chosen, auto_shard_dataset=False)
    else:
        mesh = keras.distribution.DeviceMesh((len(chosen) // shards, shards), ("batch", "model"), np.array(chosen))
        layout_map = keras.distribution.LayoutMap(mesh)
        for pattern, axes in rules.items():
            layout_map[pattern] = axes
        strategy = keras.distribution.ModelParallel(layout_map=layout_map, auto_shard_dataset=False)
    return Distribution(
        replicas=len(chosen) // shards,
        workers=jax.process_count(),
        worker=jax.process_index(),
        name=f"{type(strategy).__name__} over {len(chosen)} devices",
        scope=strategy.scope,
    )
