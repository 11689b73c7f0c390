"""Losses without negatives: each prediction is compared with its own target only."""

import keras
from keras import ops

from keras_siamim.losses.base import Loss
from keras_siamim.types import Tensor


def cosine_similarity(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the cosine similarity of each pair of vectors.

    Args:
        prediction: (..., width), any float dtype.
        target: (..., width), same shape. No gradient flows through it.

    Returns:
        (...) float32 in [-1, 1].

    Example:
        >>> float(cosine_similarity(np.array([0.0, 2.0]), np.array([0.0, 3.0])))
        1.0
    """
    p, z = (ops.normalize(ops.cast(x, "float32"), axis=-1, epsilon=1e-12) for x in (prediction, target))
    return ops.sum(p * ops.stop_gradient(z), axis=-1)


@keras.saving.register_keras_serializable(package="keras_siamim")
class MeanSquaredError(Loss):
    """Mean of `(p - z)^2` over vectors and channels: UniGrad's positive term alone.

    Example:
        >>> float(MeanSquaredError()(np.array([[1.0, 3.0]]), np.zeros((1, 2)))["loss"])
        5.0
    """

    def __call__(self, prediction, target):
        target = ops.stop_gradient(ops.cast(target, "float32"))
        return {"loss": ops.mean(ops.square(ops.cast(prediction, "float32") - target))}


@keras.saving.register_keras_serializable(package="keras_siamim")
class NormalizedMeanSquaredError(Loss):
    """Mean of `|p / |p| - z / |z||^2` over vectors, in [0, 4] (BYOL, arXiv 2006.07733, equation 2).

    Example:
        >>> float(NormalizedMeanSquaredError()(np.array([[2.0, 0.0]]), np.array([[0.0, 3.0]]))["loss"])
        2.0
    """

    def __call__(self, prediction, target):
        return {"loss": 2.0 - 2.0 * ops.mean(cosine_similarity(prediction, target))}


@keras.saving.register_keras_serializable(package="keras_siamim")
class NegativeCosine(Loss):
    """Negative mean cosine similarity, in [-1, 1] (SimSiam, arXiv 2011.10566, equation 1).

    It equals half of `NormalizedMeanSquaredError`, minus 1.

    Example:
        >>> float(NegativeCosine()(np.array([[2.0, 0.0]]), np.array([[3.0, 0.0]]))["loss"])
        -1.0
    """

    def __call__(self, prediction, target):
        return {"loss": -ops.mean(cosine_similarity(prediction, target))}
