"""Base class of all optimizers here; the only module that uses private names of Keras's optimizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
from keras import ops

from keras_siamim._backend import kernels, reduce_gradients
from keras_siamim.types import Tensor

# A Keras variable, or under tf.distribute the TensorFlow variable inside one.
Variable: TypeAlias = Any


class Optimizer(keras.optimizers.Optimizer):
    """Optimizer that steps as one device does, whatever the number of replicas.

    It differs from `keras.optimizers.Optimizer` in four ways:

    - Gradients are averaged over replicas first, and clipped after that.
    - A step with non-finite gradients is a no-op: weights, moments, accumulated gradients and the step count keep
      their values.
    - A learning-rate schedule counts optimizer steps, also under gradient accumulation.
    - `update` receives all weights at once, so that a backend can update them in one pass.

    Args:
        **kwargs: Arguments of `keras.optimizers.Optimizer`.

    Raises:
        ValueError: If `use_ema` is set.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if self.use_ema:
            raise ValueError("`use_ema` must be False: no average of the weights is kept here. Received: True.")

    def update(
        self,
        gradients: Sequence[Tensor],
        variables: Sequence[Variable],
        learning_rate: Tensor,
        due: Tensor,
        factor: Tensor,
    ) -> None:
        """Update the variables and the optimizer's own state; subclasses implement this.

        Args:
            gradients: One tensor per variable. They may hold any value where `due` is False.
            variables: Trainable variables.
            learning_rate: float scalar.
            due: bool scalar. Where it is False, nothing may change.
            factor: float scalar that multiplies the gradients: 1 unless their global norm is clipped.
        """
        raise NotImplementedError

    def take_step(self, gradients: Sequence[Tensor], variables: Sequence[Variable]) -> None:
        """Accumulate and clip gradients that all replicas share, and call `update`."""
        # There are no branches: replicas could not take them together, and a host would wait for its accelerator.
        steps, due = self.gradient_accumulation_steps, True
        if steps:
            sums = [self._accumulated_gradients[self.index_of(variable)] for variable in variables]
            totals = [kept + gradient for kept, gradient in zip(sums, gradients, strict=True)]
            gradients = [total / steps for total in totals]
            due = ops.equal((self._iterations + 1) % steps, 0)
        norm = kernels.global_norm(gradients)
        finite = ops.isfinite(norm)
        due = ops.logical_and(due, finite)
        if steps:
            for kept, total in zip(sums, totals, strict=True):
                value = ops.where(finite, total, ops.convert_to_tensor(kept))
                self.assign(kept, ops.where(due, ops.zeros_like(total), value))
        clip = self.global_clipnorm
        factor = clip / ops.maximum(norm, clip) if clip else ops.ones_like(norm)
        self.update([self._clip(gradient) for gradient in gradients], variables, self.learning_rate, due, factor)
        # Keras adds 1 after this, for skipped steps too.
        self._iterations.assign_sub(ops.cast(ops.logical_not(finite), self._iterations.dtype))

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        """Update one variable by an unclipped gradient."""
        self.update([gradient], [variable], learning_rate, ops.convert_to_tensor(True), ops.ones(()))

    def index_of(self, variable: Variable) -> int:
        """Return the index of a variable among those that the optimizer was built with."""
        return self._get_variable_index(variable)

    def decays(self, variable: Variable) -> bool:
        """Return whether weight decay applies to a variable: not to biases, norms and other vectors."""
        return len(variable.shape) > 1 and self._use_weight_decay(variable)

    def _clip(self, gradient):
        if self.clipnorm:
            norm = ops.sqrt(ops.sum(ops.square(gradient)))
            return gradient * (self.clipnorm / ops.maximum(norm, self.clipnorm))
        return ops.clip(gradient, -self.clipvalue, self.clipvalue) if self.clipvalue else gradient

    def _backend_apply_gradients(self, grads, trainable_variables):
        self.take_step(reduce_gradients(grads), trainable_variables)

    def _get_current_learning_rate(self):
        # Keras evaluates a schedule at the count of batches, which runs ahead of the steps under accumulation.
        if isinstance(self._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()


def batch_counter(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """Return the variable that counts the batches whose gradients an optimizer has used."""
    return unwrap_optimizer(optimizer)._iterations


def unwrap_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Return the inner optimizer of a `LossScaleOptimizer`, and any other optimizer as it is."""
    return getattr(optimizer, "inner_optimizer", optimizer)
