"""JAX: a step maps `state` to a new `state`; arrays are global, so nothing is left to reduce over replicas."""

import os

import jax
import keras
import numpy as np

from keras_siamim._backend.replicas import Distribution


class TrainStep:
    """Puts `begin_step` and `end_step` around Keras's own step; see `objectives.base.Objective` for the two."""

    def train_step(self, state, data):
        """One training step: `state` are Keras's four lists of arrays, `data` as Keras hands it over."""
        with self._standing_for(state) as scope:
            before = [keras.ops.convert_to_tensor(variable) for variable in self.rollback_variables]
            self.begin_step()
        state = self._current(scope, state)
        _, after = super().train_step(state, data)
        counter = [variable is self.step_counter for variable in self.optimizer.variables].index(True)
        with self._standing_for(after) as scope:
            self.end_step(before, taken=after[2][counter] != state[2][counter])
            logs = self.step_logs()
        return logs, self._current(scope, after)

    def _standing_for(self, state):
        variables = (self.trainable_variables, self.non_trainable_variables, (), self.metrics_variables)
        mapping = [
            pair
            for each, arrays in zip(variables, state, strict=True)
            if each
            for pair in zip(each, arrays, strict=True)
        ]
        return keras.StatelessScope(state_mapping=mapping)

    def _current(self, scope, state):
        trainable, _, optimizer, _ = state
        non_trainable = [scope.get_current_value(variable) for variable in self.non_trainable_variables]
        return trainable, non_trainable, optimizer, [scope.get_current_value(v) for v in self.metrics_variables]


def replica_count():
    """A JAX program sees the global batch: one."""
    return 1


def mean_over_replicas(x):
    """Nothing to do: statistics of the global array span all devices."""
    return x


def replica_rank():
    """A JAX program sees the global batch: 0."""
    return 0


def concat_over_replicas(x):
    """Nothing to join: arrays are global."""
    return jax.lax.stop_gradient(x)


def scale_loss_for_replicas(loss):
    """All of it: the loss is that of the global batch."""
    return loss


def reduce_gradients(gradients):
    """Nothing to do: gradients are those of the global batch."""
    return gradients


def all_replicas_true(verdict):
    """Nothing to ask: there is one program."""
    return verdict


def gradient_replicas(model):
    """One: gradients are those of the global batch."""
    return 1


def local_batch_shards(model):
    """Into how many parts Keras's distribution cuts the batch of this process."""
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else max(1, distribution.num_model_replicas // distribution.num_processes)


def broadcast_initial_state(model):
    """Nothing to do: processes make the same global arrays from the same seed, which JAX verifies."""


def set_up(devices=None, layout=None):
    """Join the other processes if `JAX_NUM_PROCESSES` says so, and spread over all devices.

    Args:
        devices: Use so many devices of this process; all of them if left out, and always with several processes.
        layout: None for data parallelism, or (devices that share one copy of the model, the `LayoutMap`'s rules as a
            dictionary of path patterns to axes).

    Returns:
        A `Distribution`.

    Raises:
        ValueError: If there are not as many devices.
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
        raise ValueError(f"`devices` must be at most {len(names)}, the devices there are. Received: {devices}.")
    copies, rules = (1, {}) if layout is None else layout
    own = jax.local_device_count() if processes > 1 else len(chosen)
    if own % copies:
        raise ValueError(f"`model_parallel` must divide the devices of a process, {own}. Received: {copies}.")
    if len(chosen) == 1:
        return Distribution()
    if copies == 1:
        spread = keras.distribution.DataParallel(devices=chosen, auto_shard_dataset=False)
    else:
        mesh = keras.distribution.DeviceMesh((len(chosen) // copies, copies), ("batch", "model"), np.array(chosen))
        layout_map = keras.distribution.LayoutMap(mesh)
        for pattern, axes in rules.items():
            layout_map[pattern] = axes
        spread = keras.distribution.ModelParallel(layout_map=layout_map, auto_shard_dataset=False)
    return Distribution(
        replicas=len(chosen) // copies,
        workers=jax.process_count(),
        worker=jax.process_index(),
        name=f"{type(spread).__name__} over {len(chosen)} devices",
        scope=spread.scope,
    )
