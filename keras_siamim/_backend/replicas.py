"""Description of a distributed run, and random seeds per replica."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import keras
from keras import ops

from keras_siamim.types import Tensor

# Distance between the seeds of two replicas. Keras on PyTorch adds seed and counter, so that a run must draw from one
# generator less often than this.
SEED_STRIDE = 1_000_003


def shift_seeds(states: Iterable[keras.Variable], replicas: int | Tensor) -> None:
    """Add `replicas * SEED_STRIDE` to the seeds of random number generators.

    Args:
        states: Integer variables (2,): seed and counter, the state of a `keras.random.SeedGenerator`.
        replicas: Integer or integer scalar tensor; may be negative.
    """
    for state in states:
        offset = ops.cast(replicas, state.dtype) * SEED_STRIDE
        state.assign(ops.convert_to_tensor(state) + ops.stack([offset, ops.zeros_like(offset)]))


def _unchanged(batches: Any) -> Any:
    return batches


@dataclasses.dataclass(frozen=True)
class Distribution:
    """Distribution of a training run over devices and processes.

    A *replica* computes one part of a global batch. A *worker* is a process that reads its own part of the data and
    feeds one or more replicas.

    Attributes:
        replicas: int. Number of replicas that share a global batch. Defaults to 1.
        workers: int. Number of processes. Defaults to 1.
        worker: int. Index of this process, from 0. Defaults to 0.
        name: str. Description for reports.
        scope: Function that returns a context manager; create and train models and optimizers inside it.
        feed: Function from the `tf.data.Dataset` of this worker's batches to the argument of `fit`.

    Example:
        >>> from keras_siamim.distribution import Distribution
        >>> Distribution(replicas=4, workers=2).worker_batch_size(16)
        8
    """

    replicas: int = 1
    workers: int = 1
    worker: int = 0
    name: str = "one device"
    scope: Callable[[], AbstractContextManager] = contextlib.nullcontext
    feed: Callable[[Any], Any] = _unchanged

    @property
    def is_first(self) -> bool:
        """True for the worker that writes files."""
        return self.worker == 0

    def worker_batch_size(self, batch_size: int) -> int:
        """Return the number of images of a global batch that this worker reads.

        Args:
            batch_size: int. Size of the global batch.

        Raises:
            ValueError: If `batch_size` is not divisible by the number of replicas.
        """
        if batch_size % self.replicas:
            raise ValueError(
                f"`batch_size` must be divisible by the number of replicas, {self.replicas}. Received: {batch_size}."
            )
        return batch_size // self.workers
