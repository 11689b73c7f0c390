"""The dense loss of SiameseIM."""

import math

import keras
from keras import ops

from keras_siamim._backend import mean_over_replicas
from keras_siamim.losses.base import Loss

# The paper's weight of the negative term and the decoder width that it belongs to.
PAPER_NEGATIVE_WEIGHT, PAPER_WIDTH = 0.02, 768


def scaled_negative_weight(width):
    """Return the weight of the negative term for a prediction's width: the paper's 0.02 at 768, times 768 / width.

    The negative term grows with the width, so that a narrow decoder needs a larger weight: with the paper's own, its
    features collapse.

    Args:
        width: Channels of the prediction.

    Example:
        >>> from keras_siamim.losses.unigrad import scaled_negative_weight
        >>> scaled_negative_weight(768), scaled_negative_weight(96)
        (0.02, 0.16)
    """
    return PAPER_NEGATIVE_WEIGHT * (PAPER_WIDTH / width)


def unigrad_terms(prediction, target):
    """Positive and negative term of UniGrad (arXiv 2112.05141; SiameseIM, equation 3).

    `positive = mean |p - z|^2` and `negative = mean p' S p` with the correlation `S = Z'Z / N` of the targets of the
    global batch. The products are taken as (P S) * P: memory grows with N, never with N^2. No gradient flows through
    the target or S.

    Args:
        prediction: (..., width), any float dtype.
        target: (..., width), same shape.

    Returns:
        Two float32 scalars.
    """
    width = prediction.shape[-1]
    p = ops.reshape(ops.cast(prediction, "float32"), (-1, width))
    z = ops.stop_gradient(ops.reshape(ops.cast(target, "float32"), (-1, width)))
    correlation = ops.matmul(ops.transpose(z), z) / ops.cast(ops.shape(z)[0], "float32")
    correlation = ops.stop_gradient(mean_over_replicas(correlation))
    positive = ops.mean(ops.sum(ops.square(p - z), axis=-1))
    negative = ops.mean(ops.sum(ops.matmul(p, correlation) * p, axis=-1))
    return positive, negative


@keras.saving.register_keras_serializable(package="keras_siamim")
class UniGrad(Loss):
    """`(positive + negative_weight * negative) / width`, see `unigrad_terms`.

    Args:
        negative_weight: Weight of the term that keeps features apart, 0 or more.

    Raises:
        ValueError: If `negative_weight` is negative or not finite.

    Call:
        prediction, target: (..., width).
        Returns a dictionary of float32 scalars: `loss`, `positive_term`, `negative_term`.
    """

    terms = ("positive_term", "negative_term")

    def __init__(self, negative_weight=0.02):
        if not 0 <= negative_weight < math.inf:
            raise ValueError(f"`negative_weight` must be finite and 0 or more. Received: {negative_weight}.")
        self.negative_weight = negative_weight

    def __call__(self, prediction, target):
        """Loss and its terms."""
        positive, negative = unigrad_terms(prediction, target)
        loss = (positive + self.negative_weight * negative) / prediction.shape[-1]
        return {"loss": loss, "positive_term": positive, "negative_term": negative}

    def get_config(self):
        """Constructor arguments."""
        return {"negative_weight": self.negative_weight}
