"""LARS, the optimizer of the linear probe."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_siamim")
class LARS(keras.optimizers.Optimizer):
    """Layer-wise adaptive rate scaling (You et al., arXiv 1708.03888) with momentum, as linear probes use it.

    The gradient of a weight of two dimensions or more, plus `weight_decay` times the weight, is scaled by
    `trust_coefficient * norm(weight) / norm(gradient)` (by 1 where either norm is 0). Other weights, such as biases,
    get neither decay nor scaling. Then `velocity = momentum * velocity + gradient; weight -= learning_rate * velocity`.

    Args:
        learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`.
        momentum: of the velocity, 0...1.
        trust_coefficient: above 0.
        weight_decay: coupled (L2) decay, 0 or more.
        name: of the optimizer.
        **kwargs: as for every Keras optimizer.

    Raises:
        ValueError: if a setting is out of its range.
    """

    def __init__(
        self, learning_rate=0.1, momentum=0.9, trust_coefficient=0.001, weight_decay=0.0, name="lars", **kwargs
    ):
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be in 0...1, below 1; received {momentum}.")
        if not trust_coefficient > 0:
            raise ValueError(f"`trust_coefficient` must be above 0; received {trust_coefficient}.")
        if not weight_decay >= 0:
            raise ValueError(f"`weight_decay` must be 0 or more; received {weight_decay}.")
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.momentum = momentum
        self.trust_coefficient = trust_coefficient

    def build(self, variables):
        """Create a velocity for each variable."""
        if self.built:
            return
        super().build(variables)
        self._velocities = self.add_optimizer_variables(variables, "velocity")

    def _apply_weight_decay(self, variables):
        """Do nothing: the decay is part of the gradient here, not a step of its own."""

    def update_step(self, gradient, variable, learning_rate):
        """Move one variable by one step."""
        gradient = ops.cast(gradient, variable.dtype)
        if len(variable.shape) > 1:
            gradient = gradient + self.weight_decay * variable
            weight_norm, gradient_norm = ops.norm(variable), ops.norm(gradient)
            usable = ops.logical_and(weight_norm > 0, gradient_norm > 0)
            trust = self.trust_coefficient * weight_norm / ops.where(usable, gradient_norm, 1.0)
            gradient = gradient * ops.where(usable, trust, 1.0)
        velocity = self._velocities[self._get_variable_index(variable)]
        self.assign(velocity, self.momentum * velocity + gradient)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * velocity)

    def get_config(self):
        """Return the constructor's arguments."""
        config = {"momentum": self.momentum, "trust_coefficient": self.trust_coefficient}
        return {**super().get_config(), **config}
