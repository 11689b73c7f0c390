"""UniGrad, the dense loss of SiameseIM."""

import math

import keras
from keras import ops

from keras_siamim._backend import mean_over_replicas
from keras_siamim.losses.base import Loss
from keras_siamim.types import Tensor

# The paper's weight of the negative term, and the decoder width that it was chosen for.
PAPER_NEGATIVE_WEIGHT, PAPER_WIDTH = 0.02, 768


def scaled_negative_weight(width: int) -> float:
    """Return `0.02 * 768 / width`, the paper's weight of UniGrad's negative term scaled to another decoder width.

    Args:
        width: int. Channels of the prediction.

    Example:
        >>> from keras_siamim.losses.unigrad import scaled_negative_weight
        >>> scaled_negative_weight(768), scaled_negative_weight(96)
        (0.02, 0.16)
    """
    # The negative term grows with the width: with the paper's weight, the features of a narrow decoder collapse.
    return PAPER_NEGATIVE_WEIGHT * (PAPER_WIDTH / width)


def unigrad_terms(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the positive and the negative term of UniGrad (arXiv 2112.05141; SiameseIM, equation 3).

    `positive = mean |p - z|^2` and `negative = mean p' S p`, where `S = Z'Z / N` is the correlation of the N targets of
    the global batch. No gradient flows through the targets or S.

    Args:
        prediction: (..., width), any float dtype.
        target: (..., width), same shape.

    Returns:
        Two float32 scalars.

    Example:
        >>> from keras_siamim.losses import unigrad_terms
        >>> [float(term) for term in unigrad_terms(np.array([[1.0, 2.0]]), np.array([[1.0, 0.0]]))]
        [4.0, 1.0]
    """
    width = prediction.shape[-1]
    p = ops.reshape(ops.cast(prediction, "float32"), (-1, width))
    z = ops.stop_gradient(ops.reshape(ops.cast(target, "float32"), (-1, width)))
    correlation = ops.matmul(ops.transpose(z), z) / ops.cast(ops.shape(z)[0], "float32")
    correlation = ops.stop_gradient(mean_over_replicas(correlation))
    positive = ops.mean(ops.sum(ops.square(p - z), axis=-1))
    # (P S) * P needs memory in proportion to N; the similarities of all pairs would need N^2.
    negative = ops.mean(ops.sum(ops.matmul(p, correlation) * p, axis=-1))
    return positive, negative


@keras.saving.register_keras_serializable(package="keras_siamim")
class UniGrad(Loss):
    """UniGrad loss `(positive + negative_weight * negative) / width`, see `unigrad_terms`.

    Args:
        negative_weight: float, 0 or more. Weight of the negative term, which prevents collapse. Defaults to 0.02.

    Call arguments:
        prediction: (..., width), any float dtype.
        target: (..., width), same shape.

    Returns:
        Dictionary of float32 scalars: `loss`, `positive_term` and `negative_term`.

    Raises:
        ValueError: If `negative_weight` is negative or not finite.

    Example:
        >>> float(UniGrad(negative_weight=2.0)(np.array([[1.0, 2.0]]), np.array([[1.0, 0.0]]))["loss"])
        3.0
    """

    terms = ("positive_term", "negative_term")

    def __init__(self, negative_weight: float = 0.02):
        if not 0 <= negative_weight < math.inf:
            raise ValueError(f"`negative_weight` must be finite and 0 or more. Received: {negative_weight}.")
        self.negative_weight = negative_weight

    def __call__(self, prediction, target):
        positive, negative = unigrad_terms(prediction, target)
        loss = (positive + self.negative_weight * negative) / prediction.shape[-1]
        return {"loss": loss, "positive_term": positive, "negative_term": negative}

    def get_config(self):
        return {"negative_weight": self.negative_weight}
