"""Objectives with a momentum target."""

from __future__ import annotations

import numbers
from collections.abc import Callable

import keras
from keras import ops

from keras_siamim._backend import kernels
from keras_siamim.objectives.base import Objective
from keras_siamim.optimizers import unwrap_optimizer
from keras_siamim.types import Tensor


class MomentumObjective(Objective):
    """Objective whose targets come from a momentum copy of its online branch.

    At the start of each optimizer step, `target = m * target + (1 - m) * online` in float32. BatchNorm statistics are
    not averaged: each branch has its own. Under gradient accumulation the target moves once per optimizer step, and not
    again after a skipped one. `evaluate` and `predict` never move it.

    Args:
        target_momentum: m, a float in [0, 1] or a schedule such as `CosineMomentum`, called with the optimizer step. At
            0 the target is the online branch without gradient.
        **kwargs: Arguments of `Objective`.

    Raises:
        ValueError: If `target_momentum` is a number outside [0, 1].
    """

    def __init__(self, target_momentum: float | Callable, **kwargs):
        super().__init__(**kwargs)
        in_range = isinstance(target_momentum, numbers.Real) and 0 <= target_momentum <= 1
        if not callable(target_momentum) and not in_range:
            raise ValueError(f"`target_momentum` must be in [0, 1] or a schedule. Received: {target_momentum!r}.")
        self.target_momentum = target_momentum
        self._online_weights: list[keras.Variable] = []
        self._target_weights: list[keras.Variable] = []
        # Counts training batches: the optimizer's counter can't be read inside a compiled JAX step.
        self.batches_seen = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="step")

    @staticmethod
    def copy_encoder(encoder: keras.Model) -> keras.Model:
        """Create an encoder of the same architecture for the target branch, without stochastic depth."""
        return type(encoder).from_config({**encoder.get_config(), "drop_path_rate": 0.0})

    def pair_branches(self, online: keras.Layer, target: keras.Layer) -> None:
        """Make `target` a frozen copy of `online` that `update_target` moves.

        All weights move, including those that are frozen in the online branch. Running averages and seeds do not.

        Args:
            online: Built branch.
            target: Built branch of the same architecture.
        """
        pairs = [pair for pair in zip(online.variables, target.variables, strict=True) if pair[1].trainable]
        self._online_weights = [online for online, _ in pairs]
        self._target_weights = [target for _, target in pairs]
        # One by one: on TensorFlow, `layer.trainable = False` does nothing where the flag is False already, as in the
        # copy of a frozen encoder.
        for variable in self._target_weights:
            variable.trainable = False
        self.reset_target()

    def reset_target(self) -> None:
        """Copy the online branch to the target."""
        for target, online in zip(self._target_weights, self._online_weights, strict=True):
            target.assign(ops.convert_to_numpy(online))  # two variables must not share a buffer

    @property
    def frozen_variables(self):
        return [*super().frozen_variables, *self._target_weights]

    def restart_schedule(self, target_momentum: float | Callable | None = None) -> None:
        """Count the momentum schedule from step 0 again, for a new run from a trained model.

        Compile the model again to restart its learning rate, too.

        Args:
            target_momentum: Another number or schedule. Defaults to the present one.
        """
        if target_momentum is not None:
            self.target_momentum = target_momentum
        self.batches_seen.assign(0)

    def momentum_at(self, step: int | Tensor) -> Tensor:
        """Return the momentum of an optimizer step, a float32 scalar."""
        if callable(self.target_momentum):
            return ops.cast(self.target_momentum(step), "float32")
        return ops.convert_to_tensor(self.target_momentum, dtype="float32")

    def batches_per_step(self) -> int:
        """Return the batches per optimizer step, 1 without gradient accumulation."""
        return (self.compiled and unwrap_optimizer(self.optimizer).gradient_accumulation_steps) or 1

    def begin_step(self):
        self.update_target()

    @property
    def rollback_variables(self):
        # The update of the target is finite, and a skipped step keeps it.
        kept = {id(variable) for variable in self._target_weights}
        return [variable for variable in super().rollback_variables if id(variable) not in kept]

    def update_target(self) -> None:
        """Move the target once."""
        accumulated = self.batches_per_step()
        rate = 1.0 - self.momentum_at(self.batches_seen // accumulated)
        if accumulated > 1:
            rate = ops.where(ops.equal(self.batches_seen % accumulated, 0), rate, 0.0)
        rate = ops.where(ops.equal(self.skipped_in_a_row, 0), rate, 0.0)  # it has moved for this step
        kernels.ema_update(self._target_weights, self._online_weights, rate)
        self.batches_seen.assign(self.batches_seen + 1)

    @staticmethod
    def deserialize_arguments(config: dict) -> dict:
        """Return constructor arguments from a configuration, with serialized objects deserialized."""
        arguments = dict(config)
        for name in ("encoder", "loss", "target_momentum"):
            if isinstance(config.get(name), dict) and "class_name" in config[name]:
                arguments[name] = keras.saving.deserialize_keras_object(config[name])
        return arguments

    def get_config(self):
        momentum = self.target_momentum
        if callable(momentum):
            momentum = keras.saving.serialize_keras_object(momentum)
        return {**super().get_config(), "target_momentum": momentum}
