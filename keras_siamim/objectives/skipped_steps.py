"""Training steps with non-finite numbers as no-ops."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_siamim.optimizers import batch_counter
from keras_siamim.types import Tensor


class SkipNonFiniteSteps(keras.Model):
    """Mixin of a model: a training step with a non-finite loss or gradient changes nothing.

    The step is skipped on every replica. Weights, moments, running statistics, counters and the means in the logs keep
    their values. `fit` logs `skipped`, the number of skipped steps, and `skipped_in_a_row`, the latest of them.

    The optimizer makes the decision: `keras_siamim.AdamW` and Keras's loss scale apply no gradients that are not
    finite, and do not count the step. `end_step` then restores what the forward pass had changed.
    """

    def add_skip_counters(self) -> None:
        """Create both counters; call it in the constructor."""
        count = {"shape": (), "dtype": "int32", "initializer": "zeros", "trainable": False}
        self.skipped = self.add_weight(name="skipped", **count)
        self.skipped_in_a_row = self.add_weight(name="skipped_in_a_row", **count)

    @property
    def rollback_variables(self) -> list[keras.Variable]:
        """State that the forward pass updates and a skipped step restores: running averages, seeds, metrics."""
        counts = (id(self.skipped), id(self.skipped_in_a_row))
        return [v for v in self.non_trainable_variables + self.metrics_variables if id(v) not in counts]

    @property
    def seed_states(self) -> list[keras.Variable]:
        """States of the random number generators inside the model, uint32 (2,) each."""
        return [v for v in self.non_trainable_variables if v.name == "seed_generator_state"]

    @property
    def step_counter(self) -> keras.Variable:
        """The optimizer's count of batches, which a skipped step leaves as it is."""
        return batch_counter(self.optimizer)

    def prepare_batch(self, data: Any) -> Any:
        """Return the data that a training step uses, computed on the training device; by default `data` itself."""
        return data

    def begin_step(self) -> None:
        """Run at the beginning of each training step; by default nothing."""

    def end_step(self, before: list, taken: Tensor) -> None:
        """Restore the rollback variables of a skipped step, and count it.

        Args:
            before: Values of `rollback_variables` before the step.
            taken: bool scalar tensor. False if the step was skipped.
        """
        for variable, value in zip(self.rollback_variables, before, strict=True):
            variable.assign(ops.where(taken, ops.convert_to_tensor(variable), value))
        skipped = ops.cast(ops.logical_not(taken), "int32")
        self.skipped.assign(self.skipped + skipped)
        self.skipped_in_a_row.assign((self.skipped_in_a_row + skipped) * skipped)

    def get_metrics_result(self):
        # A mean over no steps is NaN, not 0: every step so far was skipped.
        results = super().get_metrics_result()
        for metric in self.metrics:
            if isinstance(metric, keras.metrics.Mean) and metric.name in results:
                empty = ops.equal(ops.convert_to_tensor(metric.count), 0)
                results[metric.name] = ops.where(empty, float("nan"), results[metric.name])
        return results

    def step_logs(self) -> dict:
        """Return what `fit` logs."""
        counts = {name: ops.copy(getattr(self, name)) for name in ("skipped", "skipped_in_a_row")}
        return {**self.get_metrics_result(), **counts}
