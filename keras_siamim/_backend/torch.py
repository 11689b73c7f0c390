"""PyTorch: variables change in place; replicas are the processes of `torch.distributed`."""

import torch
import torch.distributed.nn.functional as differentiable


class MomentumTrainStep:
    """Moves the target, then runs Keras's own step."""

    def train_step(self, data):
        """One training step; `data` as Keras hands it over."""
        with torch.no_grad():
            self.update_target()
        return super().train_step(data)


def replica_count():
    """Number of processes that share a global batch."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


def mean_over_replicas(x):
    """Mean of `x` over processes, differentiable."""
    if replica_count() == 1:
        return x
    return differentiable.all_reduce(x) / replica_count()


def replica_rank():
    """Place of this process among those that share a global batch, from 0."""
    return torch.distributed.get_rank() if replica_count() > 1 else 0


def concat_over_replicas(x):
    """The tensors of all processes, in the order of their ranks, joined along axis 0; no gradient flows."""
    x = x.detach()
    if replica_count() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(replica_count())]
    torch.distributed.all_gather(parts, x.contiguous())
    return torch.cat(parts)
