"""PyTorch backend: variables change in place; replicas are the processes of `torch.distributed`."""

import os
from collections.abc import Callable

import keras
import torch

from keras_siamim._backend.replicas import Distribution, shift_seeds
from keras_siamim.types import Tensor


class TrainStep:
    """Mixin that calls `prepare_batch`, `begin_step`, Keras's step and `end_step`, see `objectives.base.Objective`."""

    def train_step(self, data):
        with torch.no_grad():
            data = self.prepare_batch(data)
            count = self.step_counter.value.clone()
            before = [variable.value.clone() for variable in self.rollback_variables]
            self.begin_step()
            # During the step every replica draws from its own random stream; between steps all states are equal.
            if replica_count() > 1:
                shift_seeds(self.seed_states, replica_rank())
        super().train_step(data)
        with torch.no_grad():
            if replica_count() > 1:
                shift_seeds(self.seed_states, -replica_rank())
            self.end_step(before, taken=self.step_counter.value != count)
            return self.step_logs()


def replica_count() -> int:
    """Return the number of processes that share a global batch."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


class _Mean(torch.autograd.Function):
    """Mean over processes; its gradient is the mean of their gradients."""

    @staticmethod
    def forward(ctx, x):
        return _mean(x)

    @staticmethod
    def backward(ctx, gradient):
        return _mean(gradient)


def _mean(x):
    x = x / replica_count()
    torch.distributed.all_reduce(x)
    return x


def mean_over_replicas(x: Tensor) -> Tensor:
    """Return the mean of `x` over processes; differentiable."""
    return x if replica_count() == 1 else _Mean.apply(x)


def replica_rank() -> int:
    """Return the index of this process among those that share a global batch, from 0."""
    return torch.distributed.get_rank() if replica_count() > 1 else 0


def concat_over_replicas(x: Tensor) -> Tensor:
    """Return the tensors of all processes, concatenated along axis 0 in the order of ranks, without gradient."""
    x = x.detach()
    if replica_count() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(replica_count())]
    torch.distributed.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def scale_loss_for_replicas(loss: Tensor) -> Tensor:
    """No-op: `reduce_gradients` takes the mean."""
    return loss


def reduce_gradients(gradients: list[Tensor]) -> list[Tensor]:
    """Return the means of gradients over processes, from one all-reduce."""
    if replica_count() == 1:
        return gradients
    joined = _mean(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    parts = torch.split(joined, [gradient.numel() for gradient in gradients])
    return [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)]


def all_replicas_true(condition: Tensor) -> Tensor:
    """Return True if a bool scalar is True on every process."""
    if replica_count() == 1:
        return condition
    minimum = condition.to(torch.int32)
    torch.distributed.all_reduce(minimum, torch.distributed.ReduceOp.MIN)
    return minimum > 0


def gradient_replicas(model: keras.Model) -> int:
    """Return the number of processes."""
    return replica_count()


def local_batch_shards(model: keras.Model) -> int:
    """Return 1: every process has its own batch on its own device."""
    return 1


def broadcast_initial_state(model: keras.Model) -> None:
    """Copy the first process's values of a compiled model and its optimizer to all processes."""
    if replica_count() > 1:
        if not model.optimizer.built:  # a process may have built its optimizer earlier, to save it
            model.optimizer.build(model.trainable_variables)
        with torch.no_grad():
            for variable in [*model.variables, *model.optimizer.variables]:
                torch.distributed.broadcast(variable.value, 0)


def compile_inference(layer: keras.Layer, function: Callable) -> Callable:
    """Wrap a function that calls a layer in inference mode. It changes no state, so that training goes on as before.

    Args:
        layer: Built layer. Each call reads the variables that it has at that time.
        function: Function from tensors, or dictionaries of tensors, to tensors or structures of them.

    Returns:
        The same function from NumPy arrays to NumPy arrays.
    """

    def run(*arrays):
        with torch.no_grad():
            tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, arrays)
            return keras.tree.map_structure(keras.ops.convert_to_numpy, function(*tensors))

    return run


def has_accelerator() -> bool:
    """Return True if training runs on a GPU or TPU."""
    return torch.cuda.is_available()


def free_accelerator_memory() -> float | None:
    """Return the free memory of the first GPU or TPU in bytes, or None without one."""
    return float(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else None


def set_up(devices: int | None = None, layout: tuple | None = None) -> Distribution:
    """Join the other processes that `torchrun` started, each with its own device.

    Args:
        devices: int. Number of processes, which must be that of `torchrun`. Defaults to None, any number.
        layout: None; PyTorch has no model parallelism here.

    Returns:
        A `Distribution`.

    Raises:
        ValueError: For a layout, or if the number of processes differs.
    """
    if layout is not None:
        raise ValueError(f"`model_parallel` must be 1 on PyTorch: only JAX supports more. Received: {layout[0]}.")
    workers = int(os.environ.get("WORLD_SIZE", "1"))
    if devices not in (None, workers):
        raise ValueError(
            f"`devices` must be {workers}, the number of processes: set it with `torchrun --nproc_per_node`. "
            f"Received: {devices}."
        )
    if workers == 1:
        return Distribution()
    accelerated = torch.cuda.is_available()
    if accelerated:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if accelerated else "gloo")
    return Distribution(
        replicas=workers,
        workers=workers,
        worker=torch.distributed.get_rank(),
        name=f"torch.distributed over {workers} processes",
    )
