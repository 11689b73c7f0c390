"""Dynamic loss scale for float16."""

from __future__ import annotations

import keras

from keras_siamim._backend import all_replicas_true


@keras.saving.register_keras_serializable(package="keras_siamim")
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras's dynamic loss scale with one decision for all replicas.

    If gradients overflow on any replica, all replicas skip the step and halve the scale.
    """

    def check_finite(self, grads):
        return all_replicas_true(super().check_finite(grads))
