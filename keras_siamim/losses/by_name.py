"""Losses by name."""

from collections.abc import Mapping
from typing import Any

from keras_siamim.losses.base import Loss
from keras_siamim.losses.info_nce import InfoNCE
from keras_siamim.losses.regression import MeanSquaredError, NegativeCosine, NormalizedMeanSquaredError
from keras_siamim.losses.unigrad import UniGrad

LOSSES: dict[str, type[Loss]] = {
    "unigrad": UniGrad,
    "info_nce": InfoNCE,
    "mse": MeanSquaredError,
    "normalized_mse": NormalizedMeanSquaredError,
    "cosine": NegativeCosine,
}


def get_loss(loss: Loss | str | Mapping[str, Any]) -> Loss:
    """Return a loss object.

    Args:
        loss: A `Loss`; a name in `LOSSES`; or a dictionary with the `name` and arguments of that loss.

    Raises:
        ValueError: If the name is unknown or an argument does not belong to the loss.

    Example:
        >>> from keras_siamim.losses import get_loss
        >>> get_loss("unigrad").negative_weight
        0.02
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, Mapping):
        name, options = loss.get("name"), {key: value for key, value in loss.items() if key != "name"}
        known = get_loss(name).get_config() if name in LOSSES else {}
        if name not in LOSSES or set(options) - set(known):
            raise ValueError(
                f"`loss` must have a `name`, one of {', '.join(LOSSES)}, and arguments of that loss"
                f"{f', {chr(44).join(known)}' if known else ''}. Received: {loss!r}."
            )
        return LOSSES[name](**options)
    if not isinstance(loss, str) or loss not in LOSSES:
        raise ValueError(f"`loss` must be a `Loss` or one of {', '.join(LOSSES)}. Received: {loss!r}.")
    return LOSSES[loss]()
