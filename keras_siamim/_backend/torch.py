"""PyTorch: variables change in place; replicas are the processes of `torch.distributed`."""

import os

import torch

from keras_siamim._backend.replicas import Distribution, shift_seeds


class TrainStep:
    """Puts `begin_step` and `end_step` around Keras's own step; see `objectives.base.Objective` for the two."""

    def train_step(self, data):
        """One training step; `data` as Keras hands it over."""
        with torch.no_grad():
            count = self.step_counter.value.clone()
            before = [variable.value.clone() for variable in self.rollback_variables]
            self.begin_step()
            # A stream of random numbers of its own for every replica; the states stay equal between steps.
            if replica_count() > 1:
                shift_seeds(self.seed_states, replica_rank())
        super().train_step(data)
        with torch.no_grad():
            if replica_count() > 1:
                shift_seeds(self.seed_states, -replica_rank())
            self.end_step(before, taken=self.step_counter.value != count)
            return self.step_logs()


def replica_count():
    """Number of processes that share a global batch."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


class _Mean(torch.autograd.Function):
    """Mean over processes, whose derivative is the mean of what comes back to them."""

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


def mean_over_replicas(x):
    """Mean of `x` over processes, differentiable."""
    return x if replica_count() == 1 else _Mean.apply(x)


def replica_rank():
    """Index of this process among those that share a global batch, from 0."""
    return torch.distributed.get_rank() if replica_count() > 1 else 0


def concat_over_replicas(x):
    """The tensors of all processes, in the order of their ranks, joined along axis 0; no gradient flows."""
    x = x.detach()
    if replica_count() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(replica_count())]
    torch.distributed.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def scale_loss_for_replicas(loss):
    """As it is; `reduce_gradients` takes the mean."""
    return loss


def reduce_gradients(gradients):
    """Mean over processes, in one message."""
    if replica_count() == 1:
        return gradients
    joined = _mean(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    parts = torch.split(joined, [gradient.numel() for gradient in gradients])
    return [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)]


def all_replicas_true(verdict):
    """Whether a bool holds on all processes."""
    if replica_count() == 1:
        return verdict
    votes = verdict.to(torch.int32)
    torch.distributed.all_reduce(votes, torch.distributed.ReduceOp.MIN)
    return votes > 0


def gradient_replicas(model):
    """All processes."""
    return replica_count()


def local_batch_shards(model):
    """One: every process has a batch of its own."""
    return 1


def broadcast_initial_state(model):
    """Give the compiled model of all processes, and its optimizer, the values of the first."""
    if replica_count() > 1:
        if not model.optimizer.built:  # one process may have built its own, to save it
            model.optimizer.build(model.trainable_variables)
        with torch.no_grad():
            for variable in [*model.variables, *model.optimizer.variables]:
                torch.distributed.broadcast(variable.value, 0)


def set_up(devices=None, layout=None):
    """Join the other processes that `torchrun` started, each with its own device.

    Args:
        devices: How many processes there must be, all of them if left out.
        layout: None; models are not cut on PyTorch.

    Returns:
        A `Distribution`.

    Raises:
        ValueError: For a layout, or if there are not as many processes.
    """
    if layout is not None:
        raise ValueError(f"`model_parallel` above 1 needs the JAX backend. Received: {layout[0]} on PyTorch.")
    workers = int(os.environ.get("WORLD_SIZE", "1"))
    if devices not in (None, workers):
        raise ValueError(
            f"`devices` must be {workers}, the number of processes: start as many with `torchrun --nproc_per_node`. "
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
