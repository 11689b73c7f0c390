"""Pooling: one feature vector per image from the tokens of an encoder."""

from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_siamim.types import Tensor

# The class token, or the mean of the patch tokens.
POOLINGS = ("token", "mean")


def check_pooling(pooling: str, allowed: Sequence[str] = POOLINGS) -> str:
    """Return `pooling` after checking that it is an allowed name.

    Args:
        pooling: String. Name to check.
        allowed: Sequence of strings. Allowed names. Defaults to `POOLINGS`.

    Returns:
        `pooling`, unchanged.

    Raises:
        ValueError: If `pooling` is not in `allowed`.

    Example:
        >>> check_pooling("mean")
        'mean'
    """
    if pooling not in allowed:
        raise ValueError(f"`pooling` must be one of {allowed}. Received: {pooling!r}.")
    return pooling


def pool_tokens(tokens: Tensor, pooling: str) -> Tensor:
    """Return the class token or the mean patch token of every image, in the dtype of the tokens.

    Args:
        tokens: (batch, 1 + patches, width) floats, class token first. A NumPy array or a tensor of the backend.
        pooling: `"token"` or `"mean"`.

    Returns:
        (batch, width), same dtype. A NumPy array for a NumPy array, else a tensor.

    Raises:
        ValueError: If `pooling` is not in `POOLINGS`.

    Example:
        >>> pool_tokens(np.array([[[9.0], [1.0], [3.0]]]), "mean").tolist()
        [[2.0]]
    """
    if check_pooling(pooling) == "token":
        return tokens[:, 0]
    # NumPy tokens come from an encoder outside Keras. Their mean stays on the host, in NumPy's summation order.
    mean = np.mean if isinstance(tokens, np.ndarray) else ops.mean
    return mean(tokens[:, 1:], axis=1)
