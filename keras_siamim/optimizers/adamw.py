"""The optimizer of pre-training, and its companion for float16."""

import keras
from keras import ops

from keras_siamim._backend import all_replicas_true, kernels, reduce_gradients


@keras.saving.register_keras_serializable(package="keras_siamim")
class AdamW(keras.optimizers.AdamW):
    """AdamW (arXiv 1711.05101) as PyTorch computes it, which the recorded numbers stand on.

    What differs from `keras.optimizers.AdamW`:

    - Epsilon is added to the bias-corrected root of the second moment (Keras adds it to the uncorrected one, 4.5 times
      stronger at the first step).
    - Weight decay leaves out weights of fewer than two dimensions, that is biases, norms and LayerScale, by rule rather
      than by a list, so that it cannot be forgotten when a model is saved and loaded.
    - A learning-rate schedule counts optimizer steps, also when gradients are accumulated over several batches.
    - Gradients are reduced over replicas first and clipped then, so that many devices step as one.
    - Gradients that are not finite are as good as never given: weights, moments, accumulated gradients and the count
      of steps stay as they are.

    Args:
        learning_rate: Float or `keras.optimizers.schedules.LearningRateSchedule`.
        weight_decay: Decay per step is `learning_rate * weight_decay * weight`.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: Added to the denominator.
        **kwargs: As for every Keras optimizer, `global_clipnorm` and `gradient_accumulation_steps` among them.

    Raises:
        ValueError: For `use_ema`.
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
        if self.use_ema:
            raise ValueError("`use_ema` must be False: this AdamW keeps no averages of weights. Received: True.")

    def _backend_apply_gradients(self, grads, trainable_variables):
        # Without branches, which replicas could not take together and which would make an accelerator's host wait: a
        # step that is not taken is a step of zero length.
        grads = reduce_gradients(grads)
        due = True
        if self.gradient_accumulation_steps:
            sums = [self._accumulated_gradients[self._get_variable_index(variable)] for variable in trainable_variables]
            totals = [total + gradient for total, gradient in zip(sums, grads, strict=True)]
            grads = [total / self.gradient_accumulation_steps for total in totals]
            due = ops.equal((self._iterations + 1) % self.gradient_accumulation_steps, 0)
        norm = kernels.global_norm(grads)
        finite = ops.isfinite(norm)
        due = ops.logical_and(due, finite)
        if self.gradient_accumulation_steps:
            for kept, total in zip(sums, totals, strict=True):
                self.assign(
                    kept, ops.where(due, ops.zeros_like(total), ops.where(finite, total, ops.convert_to_tensor(kept)))
                )

        clip = self.global_clipnorm
        if not clip:
            grads = self._clip_gradients(grads)
        factor = clip / ops.maximum(norm, clip) if clip else ops.ones_like(norm)
        self._step(grads, trainable_variables, self.learning_rate, due, factor)
        self._iterations.assign_sub(
            ops.cast(ops.logical_not(finite), self._iterations.dtype)
        )  # Keras adds 1 after this

    def update_step(self, gradient, variable, learning_rate):
        """Move one variable by one step, unclipped."""
        self._step([gradient], [variable], learning_rate, ops.convert_to_tensor(True), ops.ones(()))

    def _step(self, gradients, variables, learning_rate, due, factor):
        indices = [self._get_variable_index(variable) for variable in variables]
        kernels.adamw(
            variables,
            gradients,
            [self._momentums[index] for index in indices],
            [self._velocities[index] for index in indices],
            ops.convert_to_tensor(learning_rate),
            [self.learning_rate_scale(variable) for variable in variables],
            [(self.weight_decay or 0.0) * self._use_weight_decay(variable) for variable in variables],
            ops.cast(self.iterations + 1, "float32"),
            due,
            factor,
            self.beta_1,
            self.beta_2,
            self.epsilon,
        )

    def learning_rate_scale(self, variable):
        """Factor of a variable's own on its learning rate."""
        return 1.0

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


@keras.saving.register_keras_serializable(package="keras_siamim")
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras's dynamic loss scale for float16, with one verdict for all replicas.

    A step whose gradients overflow on any replica is skipped, and the scale halved, on all of them.
    """

    def check_finite(self, grads):
        """Whether the gradients of all replicas are finite; a bool tensor."""
        return all_replicas_true(super().check_finite(grads))


def unwrap_optimizer(optimizer):
    """The optimizer itself, inside its loss scale if it has one."""
    return getattr(optimizer, "inner_optimizer", optimizer)
