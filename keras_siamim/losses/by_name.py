"""Losses by name."""

from keras_siamim.losses.base import Loss
from keras_siamim.losses.info_nce import InfoNCE
from keras_siamim.losses.regression import MeanSquaredError, NegativeCosine, NormalizedMeanSquaredError
from keras_siamim.losses.unigrad import UniGrad

LOSSES = {
    "unigrad": UniGrad,
    "info_nce": InfoNCE,
    "mse": MeanSquaredError,
    "normalized_mse": NormalizedMeanSquaredError,
    "cosine": NegativeCosine,
}


def get_loss(loss):
    """A loss from its name in `LOSSES`, with its defaults, or the `Loss` given.

    Raises:
        ValueError: For anything else.

    Example:
        >>> from keras_siamim.losses import get_loss
        >>> get_loss("unigrad").negative_weight
        0.02
    """
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str) or loss not in LOSSES:
        raise ValueError(f"`loss` must be a `Loss` or one of {', '.join(LOSSES)}. Received: {loss!r}.")
    return LOSSES[loss]()
