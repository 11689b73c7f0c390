"""AdamW, the optimizer of pre-training."""

from __future__ import annotations

import keras
from keras import ops

from keras_siamim._backend import kernels
from keras_siamim.optimizers.base import Optimizer, Variable


@keras.saving.register_keras_serializable(package="keras_siamim")
class AdamW(Optimizer):
    """AdamW (arXiv 1711.05101) with the arithmetic of PyTorch's.

    It differs from `keras.optimizers.AdamW` in what `Optimizer` says, and in two more ways:

    - Epsilon is added to the bias-corrected root of the second moment. Keras adds it to the uncorrected root, where it
      is 4.5 times stronger at the first step.
    - Weights of fewer than two dimensions (biases, norms, LayerScale) never decay. A list of exclusions would be lost
      when a model is saved and loaded.

    Args:
        learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`. Defaults to 1e-3.
        weight_decay: float. A step subtracts `learning_rate * weight_decay * weight`. Defaults to 0.05.
        beta_1: float. Decay of the first moment. Defaults to 0.9.
        beta_2: float. Decay of the second moment. Defaults to 0.95.
        epsilon: float. Added to the denominator. Defaults to 1e-8.
        name: str. Name of the optimizer.
        **kwargs: Arguments of `keras.optimizers.Optimizer`, such as `global_clipnorm` and
            `gradient_accumulation_steps`.

    Example:
        >>> from keras_siamim import AdamW
        >>> AdamW(1e-3, global_clipnorm=3.0, gradient_accumulation_steps=4).weight_decay
        0.05
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 1e-3,
        weight_decay: float = 0.05,
        beta_1: float = 0.9,
        beta_2: float = 0.95,
        epsilon: float = 1e-8,
        name: str = "adamw",
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.first_moments, self.second_moments = self.add_optimizer_variables(variables, ["momentum", "velocity"])

    def update(self, gradients, variables, learning_rate, due, factor):
        indices = [self.index_of(variable) for variable in variables]
        kernels.adamw(
            variables,
            gradients,
            [self.first_moments[index] for index in indices],
            [self.second_moments[index] for index in indices],
            ops.convert_to_tensor(learning_rate),
            [self.learning_rate_scale(variable) for variable in variables],
            [(self.weight_decay or 0.0) * self.decays(variable) for variable in variables],
            ops.cast(self.iterations + 1, "float32"),
            due,
            factor,
            self.beta_1,
            self.beta_2,
            self.epsilon,
        )

    def learning_rate_scale(self, variable: Variable) -> float:
        """Return the factor by which a variable's learning rate is multiplied."""
        return 1.0

    def get_config(self):
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="keras_siamim")
class GradientKeepingAdamW(AdamW):
    """AdamW that stores each gradient, averaged over replicas and before clipping, in `gradients`.

    It costs one more copy of the weights: use it to inspect a training step.
    """

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.gradients = self.add_optimizer_variables(variables, "gradient")

    def take_step(self, gradients, variables):
        for gradient, variable in zip(gradients, variables, strict=True):
            self.assign(self.gradients[self.index_of(variable)], gradient)
        super().take_step(gradients, variables)
