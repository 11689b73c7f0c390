"""AdamW for several models that are trained at once in one set of batched variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_siamim._backend.kernels.updates import adamw_update
from keras_siamim.optimizers.adamw import AdamW


@keras.saving.register_keras_serializable(package="keras_siamim")
class ParallelAdamW(AdamW):
    """AdamW with a learning rate and a weight decay per model, where the first axis of each variable is the model.

    If the loss is the sum of the models' losses, each model is trained as by an `AdamW` of its own. A model whose
    gradients are not finite skips the step, and the others take it. Variables with "bias" in their names never decay.

    Args:
        learning_rates: Sequence of floats, one per model. Factors of `learning_rate`.
        weight_decays: Sequence of floats, one per model.
        learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`. Common factor of the learning rates.
            Defaults to 1.
        name: str. Name of the optimizer.
        **kwargs: `beta_1`, `beta_2` and `epsilon` of `AdamW`. Clipping and accumulation of gradients are not supported.

    Raises:
        ValueError: If the two sequences differ in length, or clipping or accumulation is set.

    Example:
        >>> from keras_siamim.optimizers import ParallelAdamW
        >>> variable = keras.Variable(np.zeros((2, 3), "float32"))
        >>> optimizer = ParallelAdamW([0.5, 0.25], [0.0, 0.0])
        >>> optimizer.build([variable])
        >>> optimizer.apply([np.ones((2, 3), "float32")], [variable])
        >>> keras.ops.convert_to_numpy(variable)[:, 0].round(4).tolist()
        [-0.5, -0.25]
    """

    def __init__(
        self,
        learning_rates: Sequence[float],
        weight_decays: Sequence[float],
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 1.0,
        name: str = "parallel_adamw",
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **{**kwargs, "weight_decay": 0.0})
        if len(learning_rates) != len(weight_decays) or not len(learning_rates):
            raise ValueError(
                "`weight_decays` must have one value per learning rate, and at least one. Received: "
                f"{len(weight_decays)} values for {len(learning_rates)} learning rates."
            )
        unsupported = ("clipnorm", "clipvalue", "global_clipnorm", "gradient_accumulation_steps")
        if given := [key for key in unsupported if getattr(self, key)]:
            raise ValueError(f"`{given[0]}` must be None, since models are independent. Received: {kwargs[given[0]]}.")
        self.learning_rates = [float(rate) for rate in learning_rates]
        self.weight_decays = [float(decay) for decay in weight_decays]

    def take_step(self, gradients, variables):
        models = len(self.learning_rates)
        finite = [ops.all(ops.isfinite(ops.reshape(gradient, (models, -1))), axis=1) for gradient in gradients]
        due = ops.all(ops.stack(finite), axis=0)
        self.update(gradients, variables, self.learning_rate, due, ops.ones(()))

    def update(self, gradients, variables, learning_rate, due, factor):
        rates, decays = (
            ops.convert_to_tensor(values, "float32") for values in (self.learning_rates, self.weight_decays)
        )
        step = ops.cast(self.iterations + 1, "float32")
        for gradient, variable in zip(gradients, variables, strict=True):
            index = self.index_of(variable)
            state = (variable, self.first_moments[index], self.second_moments[index])
            shape = (-1, *(1 for _ in variable.shape[1:]))
            weight, first, second = (ops.convert_to_tensor(value) for value in state)
            new = adamw_update(
                weight,
                ops.cast(gradient, weight.dtype),
                first,
                second,
                ops.cast(learning_rate, weight.dtype) * ops.reshape(rates, shape),
                ops.reshape(decays, shape) * float("bias" not in variable.name),
                step,
                ops.reshape(due, shape),
                factor,
                self.beta_1,
                self.beta_2,
                self.epsilon,
            )
            for target, value in zip(state, new, strict=True):
                self.assign(target, value)

    def get_config(self):
        config = super().get_config()
        del config["weight_decay"]  # fixed by the constructor
        return {**config, "learning_rates": self.learning_rates, "weight_decays": self.weight_decays}
