"""The optimiser of pre-training."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_siamim")
class AdamW(keras.optimizers.AdamW):
    """AdamW (arXiv 1711.05101) as PyTorch computes it, which the recorded numbers stand on.

    Three things differ from `keras.optimizers.AdamW`. Epsilon is added to the bias-corrected root of the second moment
    (Keras adds it to the uncorrected one, 4.5 times stronger at the first step). And weight decay leaves out weights of
    fewer than two dimensions, that is biases, norms and LayerScale, by rule rather than by a list, so that it cannot be
    forgotten when a model is saved and loaded. A learning-rate schedule counts optimiser steps, also when gradients are
    accumulated over several batches.

    Args:
        learning_rate: Float or `keras.optimizers.schedules.LearningRateSchedule`.
        weight_decay: Decay per step is `learning_rate * weight_decay * weight`.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: Added to the denominator.
        **kwargs: As for every Keras optimiser, `global_clipnorm` and `gradient_accumulation_steps` among them.
    """

    def __init__(
        self, learning_rate=1e-3, weight_decay=0.05, beta_1=0.9, beta_2=0.95, epsilon=1e-8, name="adamw", **kwargs
    ):
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            name=name,
            **kwargs,
        )

    def update_step(self, gradient, variable, learning_rate):
        """Move one variable by one step."""
        dtype = variable.dtype
        gradient = ops.cast(gradient, dtype)
        step = ops.cast(self.iterations + 1, dtype)
        index = self._get_variable_index(variable)
        first, second = self._momentums[index], self._velocities[index]
        self.assign_add(first, (gradient - first) * (1 - self.beta_1))
        self.assign_add(second, (ops.square(gradient) - second) * (1 - self.beta_2))
        correction_1 = 1 - ops.power(ops.cast(self.beta_1, dtype), step)
        correction_2 = 1 - ops.power(ops.cast(self.beta_2, dtype), step)
        denominator = ops.sqrt(second / correction_2) + self.epsilon
        self.assign_sub(variable, ops.cast(learning_rate, dtype) / correction_1 * first / denominator)

    def _get_current_learning_rate(self):
        # Keras hands a schedule the count of batches; under gradient accumulation it would run ahead of the steps.
        if isinstance(self._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()

    def _use_weight_decay(self, variable):
        return len(variable.shape) > 1 and super()._use_weight_decay(variable)

    def get_config(self):
        """Constructor arguments."""
        config = super().get_config()
        config.pop("amsgrad")
        return config
