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
