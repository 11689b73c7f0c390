"""Losses that compare every prediction with its own target alone."""

import keras
from keras import ops

from keras_siamim.losses.base import Loss


def cosine_similarity(prediction, target):
    """Cosine of the angle between vectors.

    Args:
        prediction: (..., width), any float dtype.
        target: (..., width), same shape; no gradient flows through it.

    Returns:
        (...) float32.
    """
    p, z = (ops.normalize(ops.cast(x, "float32"), axis=-1, epsilon=1e-12) for x in (prediction, target))
    return ops.sum(p * ops.stop_gradient(z), axis=-1)


@keras.saving.register_keras_serializable(package="keras_siamim")
class MeanSquaredError(Loss):
    """Mean over vectors and channels of `(p - z)^2`: UniGrad's positive term alone."""

    def __call__(self, prediction, target):
        """The loss."""
        target = ops.stop_gradient(ops.cast(target, "float32"))
        return {"loss": ops.mean(ops.square(ops.cast(prediction, "float32") - target))}


@keras.saving.register_keras_serializable(package="keras_siamim")
class NormalizedMeanSquaredError(Loss):
    """Mean over vectors of `|p / |p| - z / |z||^2`, 0...4 (BYOL, arXiv 2006.07733, equation 2)."""

    def __call__(self, prediction, target):
        """The loss."""
        return {"loss": 2.0 - 2.0 * ops.mean(cosine_similarity(prediction, target))}


@keras.saving.register_keras_serializable(package="keras_siamim")
class NegativeCosine(Loss):
    """Minus the mean cosine, -1...1 (SimSiam, arXiv 2011.10566, equation 1): half of BYOL's loss, less a constant."""

    def __call__(self, prediction, target):
        """The loss."""
        return {"loss": -ops.mean(cosine_similarity(prediction, target))}
