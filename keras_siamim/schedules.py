"""Schedules per optimizer step: learning rate and target momentum."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_siamim.types import Tensor


def scaled_learning_rate(base_learning_rate: float, batch_size: int) -> float:
    """Return `base_learning_rate * batch_size / 256`, the linear scaling rule (arXiv 1706.02677).

    Args:
        base_learning_rate: float. Learning rate per 256 images.
        batch_size: int. Images of the global batch per optimizer step.

    Example:
        >>> scaled_learning_rate(6.25e-5, 4096)
        0.001
    """
    return base_learning_rate * batch_size / 256


def warmup_cosine(peak: float, warmup_steps: int, total_steps: int) -> keras.optimizers.schedules.CosineDecay:
    """Create a learning-rate schedule: linear from 0 to `peak`, then half a cosine to 0, per optimizer step.

    Args:
        peak: float. Highest learning rate.
        warmup_steps: int in [0, total_steps). Steps of the linear part.
        total_steps: int. Steps of the run.

    Returns:
        A `keras.optimizers.schedules.CosineDecay`.

    Raises:
        ValueError: If the warm-up is not shorter than the run.

    Example:
        >>> schedule = warmup_cosine(0.5, warmup_steps=10, total_steps=100)
        >>> float(schedule(5)), float(schedule(10)), float(schedule(100))
        (0.25, 0.5, 0.0)
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"`warmup_steps` must be 0 or more and below `total_steps`. Received: warmup_steps={warmup_steps}, "
            f"total_steps={total_steps}."
        )
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(peak, total_steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, total_steps - warmup_steps, warmup_target=peak, warmup_steps=warmup_steps
    )


@keras.saving.register_keras_serializable(package="keras_siamim")
class WarmupLinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that rises linearly to `peak`, then falls linearly to 0, as mmsegmentation trains UPerNet.

    The first step learns at `1e-6 * peak`, the last step of the warm-up and the one after it at `peak`, and the last
    step of the run at 0.

    Args:
        peak: float. Highest learning rate.
        warmup_steps: int in [0, total_steps - 1). Steps of the rise.
        total_steps: int. Steps of the run.

    Raises:
        ValueError: If the warm-up does not end at least two steps before the run.

    Example:
        >>> schedule = WarmupLinearDecay(0.5, warmup_steps=11, total_steps=112)
        >>> [round(float(schedule(step)), 3) for step in (0, 5, 10, 11, 61, 111)]
        [0.0, 0.25, 0.5, 0.5, 0.25, 0.0]
    """

    _START = 1e-6

    def __init__(self, peak: float, warmup_steps: int, total_steps: int):
        super().__init__()
        if not 0 <= warmup_steps < total_steps - 1:
            raise ValueError(
                "`warmup_steps` must be 0 or more and below `total_steps - 1`. Received: "
                f"warmup_steps={warmup_steps}, total_steps={total_steps}."
            )
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rise = self._START + (1 - self._START) * step / max(self.warmup_steps - 1, 1)
        fall = 1.0 - (step - self.warmup_steps) / (self.total_steps - self.warmup_steps - 1)
        return self.peak * ops.where(step < self.warmup_steps, rise, ops.maximum(fall, 0.0))

    def get_config(self):
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "total_steps": self.total_steps}


@keras.saving.register_keras_serializable(package="keras_siamim")
class WarmupSteps(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that rises linearly from `0.001 * peak`, then is divided by 10 at each milestone, as ViTDet's.

    Args:
        peak: float. Highest learning rate.
        warmup_steps: int, 0 or more. Steps of the rise.
        milestones: Sequence of ints. First step of each lower rate, ascending.

    Raises:
        ValueError: If `warmup_steps` is negative, or the milestones do not ascend after the warm-up.

    Example:
        >>> schedule = WarmupSteps(0.5, warmup_steps=10, milestones=[100, 200])
        >>> [round(float(schedule(step)), 4) for step in (0, 10, 99, 100, 200)]
        [0.0005, 0.5, 0.5, 0.05, 0.005]
    """

    _START = 0.001

    def __init__(self, peak: float, warmup_steps: int, milestones: Sequence[int]):
        super().__init__()
        steps = [warmup_steps, *milestones]
        if warmup_steps < 0 or any(later <= earlier for earlier, later in itertools.pairwise(steps)):
            raise ValueError(
                "`milestones` must ascend after `warmup_steps`, which must be 0 or more. Received: "
                f"warmup_steps={warmup_steps}, milestones={list(milestones)}."
            )
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.milestones = [int(step) for step in milestones]

    def __call__(self, step):
        step = ops.cast(step, "float32")
        factor = ops.minimum(self._START + (1 - self._START) * step / max(self.warmup_steps, 1), 1.0)
        for milestone in self.milestones:
            factor *= ops.where(step < milestone, 1.0, 0.1)
        return self.peak * factor

    def get_config(self):
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "milestones": self.milestones}


@keras.saving.register_keras_serializable(package="keras_siamim")
class CosineMomentum:
    """Momentum of the target branch: a cosine from `initial` to 1 (BYOL, arXiv 2006.07733).

    At step t of T it is `1 - (1 + cos(pi * t / T)) / 2 * (1 - initial)`. SiameseIM starts at 0.995, MoCo v3 at 0.99.

    Args:
        initial: float in [0, 1]. Momentum of the first step.
        total_steps: int, 1 or more. T, the optimizer steps of the run; the momentum of later steps is 1.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> float(CosineMomentum(0.5, total_steps=10)(0))
        0.5
    """

    def __init__(self, initial: float, total_steps: int):
        if not 0 <= initial <= 1:
            raise ValueError(f"`initial` must be in [0, 1]. Received: {initial}.")
        if total_steps < 1:
            raise ValueError(f"`total_steps` must be 1 or more. Received: {total_steps}.")
        self.initial = initial
        self.total_steps = total_steps

    def __call__(self, step: int | Tensor) -> Tensor:
        """Return the momentum of an optimizer step, counted from 0, as a float32 scalar."""
        progress = ops.minimum(ops.cast(step, "float32") / self.total_steps, 1.0)
        return 1.0 - (1.0 + ops.cos(math.pi * progress)) * (0.5 * (1.0 - self.initial))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"initial": self.initial, "total_steps": self.total_steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Create a schedule from the result of `get_config`."""
        return cls(**config)
