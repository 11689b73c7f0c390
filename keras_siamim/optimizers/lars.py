"""LARS, the optimizer of the linear probe."""

from __future__ import annotations

import keras
from keras import ops

from keras_siamim.optimizers.base import Optimizer


@keras.saving.register_keras_serializable(package="keras_siamim")
class LARS(Optimizer):
    """Layer-wise adaptive rate scaling with momentum (arXiv 1708.03888), as linear probes use it.

    The gradient of a weight of two or more dimensions, plus `weight_decay` times the weight, is multiplied by
    `trust_coefficient * norm(weight) / norm(gradient)`, or by 1 where either norm is 0. Other weights, such as biases,
    get neither decay nor scaling. Then `velocity = momentum * velocity + gradient` and
    `weight -= learning_rate * velocity`.

    Args:
        learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`. Defaults to 0.1.
        momentum: float in [0, 1). Decay of the velocity. Defaults to 0.9.
        trust_coefficient: float above 0. Defaults to 0.001.
        weight_decay: float, 0 or more. Coupled (L2) decay. Defaults to 0.
        name: str. Name of the optimizer.
        **kwargs: Arguments of `keras.optimizers.Optimizer`.

    Raises:
        ValueError: If a setting is out of its range.

    Example:
        >>> from keras_siamim.optimizers import LARS
        >>> LARS(0.1, momentum=0.9).trust_coefficient
        0.001
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.1,
        momentum: float = 0.9,
        trust_coefficient: float = 0.001,
        weight_decay: float = 0.0,
        name: str = "lars",
        **kwargs,
    ):
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1). Received: {momentum}.")
        if not trust_coefficient > 0:
            raise ValueError(f"`trust_coefficient` must be above 0. Received: {trust_coefficient}.")
        if not weight_decay >= 0:
            raise ValueError(f"`weight_decay` must be 0 or more. Received: {weight_decay}.")
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.momentum = momentum
        self.trust_coefficient = trust_coefficient

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")

    def update(self, gradients, variables, learning_rate, due, factor):
        for gradient, variable in zip(gradients, variables, strict=True):
            gradient = ops.cast(gradient, variable.dtype) * ops.cast(factor, variable.dtype)
            if len(variable.shape) > 1:
                gradient = self._scaled(gradient, variable)
            velocity = self.velocities[self.index_of(variable)]
            old = ops.convert_to_tensor(velocity)
            new = self.momentum * old + gradient
            self.assign(velocity, ops.where(due, new, old))
            step = ops.cast(learning_rate, variable.dtype) * new
            self.assign_sub(variable, ops.where(due, step, ops.zeros_like(step)))

    def _scaled(self, gradient, variable):
        gradient = gradient + self.weight_decay * variable
        weight_norm, gradient_norm = ops.norm(variable), ops.norm(gradient)
        usable = ops.logical_and(weight_norm > 0, gradient_norm > 0)
        trust = self.trust_coefficient * weight_norm / ops.where(usable, gradient_norm, 1.0)
        return gradient * ops.where(usable, trust, 1.0)

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "trust_coefficient": self.trust_coefficient}
