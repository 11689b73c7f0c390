"""Objectives with a momentum target."""

import numbers

import keras
from keras import ops

from keras_siamim._backend import kernels
from keras_siamim.objectives.base import Objective
from keras_siamim.optimizers import unwrap_optimizer


class MomentumObjective(Objective):
    """An objective whose targets come from a momentum copy of its online branch.

    At the start of every optimizer step, `target = m * target + (1 - m) * online` in float32, with the online weights
    as they are then. Running averages of BatchNorm are not averaged; each branch keeps its own. With gradient
    accumulation the target moves once per optimizer step, and not again after a skipped one. `evaluate` and `predict`
    never move it.

    Args:
        target_momentum: m, a number within 0...1 (0: the target is the online branch, without gradient), or a schedule
            such as `CosineMomentum`, called with the optimizer step.
        **kwargs: As for every Keras model.

    Raises:
        ValueError: If `target_momentum` is a number outside 0...1.
    """

    def __init__(self, target_momentum, **kwargs):
        super().__init__(**kwargs)
        in_range = isinstance(target_momentum, numbers.Real) and 0 <= target_momentum <= 1
        if not callable(target_momentum) and not in_range:
            raise ValueError(f"`target_momentum` must be in [0, 1] or a schedule. Received: {target_momentum!r}.")
        self.target_momentum = target_momentum
        self._online_weights = self._target_weights = ()
        # Counts batches learned from. The optimizer's own counter can't be read inside a compiled JAX step.
        self.batches_seen = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="step")

    @staticmethod
    def copy_encoder(encoder):
        """A new encoder of the same architecture for the target branch, which drops no paths."""
        return type(encoder).from_config({**encoder.get_config(), "drop_path_rate": 0.0})

    def pair_branches(self, online, target):
        """Make `target` a frozen copy of `online` that `update_target` moves; both are built and of one architecture.

        All weights move, those too that are frozen in the online branch; running averages and seeds do not.
        """
        pairs = [pair for pair in zip(online.variables, target.variables, strict=True) if pair[1].trainable]
        self._online_weights = [online for online, _ in pairs]
        self._target_weights = [target for _, target in pairs]
        # One by one: on TensorFlow a layer ignores `trainable` set to what it is, as in the copy of a frozen encoder.
        for variable in self._target_weights:
            variable.trainable = False
        self.reset_target()

    def reset_target(self):
        """Set the target to the online branch as it is now."""
        for target, online in zip(self._target_weights, self._online_weights, strict=True):
            target.assign(ops.convert_to_numpy(online))  # through NumPy: two variables must not share a buffer

    @property
    def frozen_variables(self):
        """The target's weights, beside those of every objective."""
        return [*super().frozen_variables, *self._target_weights]

    def restart_schedule(self, target_momentum=None):
        """Begin a new run from a trained model: the momentum is counted from step 0 again.

        Args:
            target_momentum: Another number or schedule, as for the constructor. Defaults to the present one. Compile
                anew for a learning rate that starts again, too.
        """
        if target_momentum is not None:
            self.target_momentum = target_momentum
        self.batches_seen.assign(0)

    def momentum_at(self, step):
        """Momentum of optimizer step `step`, float32."""
        if callable(self.target_momentum):
            return ops.cast(self.target_momentum(step), "float32")
        return ops.convert_to_tensor(self.target_momentum, dtype="float32")

    def batches_per_step(self):
        """Batches per optimizer step: 1 without gradient accumulation."""
        return (self.compiled and unwrap_optimizer(self.optimizer).gradient_accumulation_steps) or 1

    def begin_step(self):
        """Move the target."""
        self.update_target()

    @property
    def rollback_variables(self):
        """As for every objective; what moves the target is finite and stays."""
        kept = {id(variable) for variable in self._target_weights}
        return [variable for variable in super().rollback_variables if id(variable) not in kept]

    def update_target(self):
        """One momentum update."""
        accumulated = self.batches_per_step()
        rate = 1.0 - self.momentum_at(self.batches_seen // accumulated)
        if accumulated > 1:
            rate = ops.where(ops.equal(self.batches_seen % accumulated, 0), rate, 0.0)
        rate = ops.where(ops.equal(self.skipped_in_a_row, 0), rate, 0.0)  # it has moved for this step already
        kernels.ema_update(self._target_weights, self._online_weights, rate)
        self.batches_seen.assign(self.batches_seen + 1)

    @staticmethod
    def deserialize_arguments(config):
        """A configuration as `get_config` gives it, with its objects made of their configurations again."""
        revived = dict(config)
        for name in ("encoder", "loss", "target_momentum"):
            if isinstance(config.get(name), dict) and "class_name" in config[name]:
                revived[name] = keras.saving.deserialize_keras_object(config[name])
        return revived

    def get_config(self):
        """Constructor arguments."""
        momentum = self.target_momentum
        if callable(momentum):
            momentum = keras.saving.serialize_keras_object(momentum)
        return {**super().get_config(), "target_momentum": momentum}
