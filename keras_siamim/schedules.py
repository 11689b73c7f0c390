"""Schedules per optimizer step: learning rate and target momentum."""

import math

import keras
from keras import ops


def scaled_learning_rate(base_learning_rate, batch_size):
    """Linear scaling rule: a rate given per 256 images, for the global batch of one optimizer step.

    Example:
        >>> scaled_learning_rate(6.25e-5, 4096)
        0.001
    """
    return base_learning_rate * batch_size / 256


def warmup_cosine(peak, warmup_steps, total_steps):
    """Learning rate: linear from 0 to `peak`, then half a cosine to 0, per optimizer step.

    Args:
        peak: Highest rate.
        warmup_steps: Steps of the linear part, 0 or more and below `total_steps`.
        total_steps: Steps of the whole run.

    Returns:
        A `keras.optimizers.schedules.CosineDecay`.

    Raises:
        ValueError: If the warm-up is not shorter than the run.
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
class CosineMomentum:
    """Momentum of the target branch: a cosine from `initial` to 1, `m = 1 - (1 + cos(pi t / T)) / 2 * (1 - initial)`.

    From BYOL (arXiv 2006.07733); SiameseIM starts at 0.995, MoCo v3 at 0.99.

    Args:
        initial: Momentum of the first step, 0...1.
        total_steps: T, optimizer steps of the whole run; later steps keep momentum 1.

    Raises:
        ValueError: If `initial` is outside 0...1 or `total_steps` below 1.

    Example:
        >>> float(CosineMomentum(0.5, total_steps=10)(0))
        0.5
    """

    def __init__(self, initial, total_steps):
        if not 0 <= initial <= 1:
            raise ValueError(f"`initial` momentum must be within 0...1. Received: {initial}.")
        if total_steps < 1:
            raise ValueError(f"`total_steps` must be 1 or more. Received: {total_steps}.")
        self.initial = initial
        self.total_steps = total_steps

    def __call__(self, step):
        """Momentum of optimizer step `step` (whole number or integer tensor), as a float32 tensor."""
        progress = ops.minimum(ops.cast(step, "float32") / self.total_steps, 1.0)
        return 1.0 - (1.0 + ops.cos(math.pi * progress)) * (0.5 * (1.0 - self.initial))

    def get_config(self):
        """Constructor arguments."""
        return {"initial": self.initial, "total_steps": self.total_steps}

    @classmethod
    def from_config(cls, config):
        """Inverse of `get_config`."""
        return cls(**config)
