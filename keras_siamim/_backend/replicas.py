"""What each backend's `set_up` gives."""

import contextlib
import dataclasses
from collections.abc import Callable

from keras import ops

# Distance between the seeds of two replicas, beyond the number of random numbers that a run asks a generator for.
SEED_STRIDE = 1_000_003


def shift_seeds(states, replicas):
    """Move the states of random number generators by so many replicas.

    Args:
        states: Variables (2,) of whole numbers: seed and counter, as `keras.random.SeedGenerator` keeps them.
        replicas: Whole number, may be a tensor and negative.
    """
    for state in states:
        offset = ops.cast(replicas, state.dtype) * SEED_STRIDE
        state.assign(ops.convert_to_tensor(state) + ops.stack([offset, ops.zeros_like(offset)]))


def _as_it_is(batches):
    return batches


@dataclasses.dataclass(frozen=True)
class Distribution:
    """How a training run is spread over devices.

    A *replica* computes one part of a global batch; a *worker* is a process that reads its own part of the data and
    feeds one replica or more.

    Attributes:
        replicas: How many replicas share a global batch.
        workers: How many processes.
        worker: The number of this one, from 0.
        name: What to call it in a report.
        scope: `with distribution.scope():` is where models and optimizers are made and trained.
        feed: Turns the `tf.data.Dataset` of this worker's batches into what `fit` takes.
    """

    replicas: int = 1
    workers: int = 1
    worker: int = 0
    name: str = "one device"
    scope: Callable = contextlib.nullcontext
    feed: Callable = _as_it_is

    @property
    def is_first(self):
        """Whether this worker is the one that writes files."""
        return self.worker == 0

    def worker_batch_size(self, batch_size):
        """Images of a global batch that this worker reads.

        Raises:
            ValueError: If the replicas do not divide `batch_size`.
        """
        if batch_size % self.replicas:
            raise ValueError(
                f"`batch_size` must be divisible by the number of replicas, {self.replicas}. Received: {batch_size}."
            )
        return batch_size // self.workers
