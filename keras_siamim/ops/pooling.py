"""Pooling: one feature vector per image from the tokens of an encoder."""

from collections.abc import Sequence
from typing import Any

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


def num_prefix_tokens(encoder: Any) -> int:
    """Return how many tokens an encoder puts before those of the patches: 1 for a class token, 0 without one.

    Args:
        encoder: Model or callable from images to tokens, with the attribute `num_prefix_tokens` or a class token.

    Example:
        >>> num_prefix_tokens(lambda images: images)
        1
    """
    return getattr(encoder, "num_prefix_tokens", 1)


def pool_tokens(tokens: Tensor, pooling: str, prefix: int = 1) -> Tensor:
    """Return the class token or the mean patch token of every image, in the dtype of the tokens.

    Args:
        tokens: (batch, prefix + patches, width) floats. A NumPy array or a tensor of the backend.
        pooling: `"token"` or `"mean"`.
        prefix: Integer. Number of tokens before those of the patches, see `num_prefix_tokens`. Defaults to 1.

    Returns:
        (batch, width), same dtype. A NumPy array for a NumPy array, else a tensor.

    Raises:
        ValueError: If `pooling` is not in `POOLINGS`, or is `"token"` without a class token.

    Example:
        >>> pool_tokens(np.array([[[9.0], [1.0], [3.0]]]), "mean").tolist()
        [[2.0]]
    """
    if check_pooling(pooling) == "token":
        if not prefix:
            raise ValueError("`pooling` must be 'mean' for an encoder without a class token. Received: 'token'.")
        return tokens[:, 0]
    # NumPy tokens come from an encoder outside Keras. Their mean stays on the host, in NumPy's summation order.
    mean = np.mean if isinstance(tokens, np.ndarray) else ops.mean
    return mean(tokens[:, prefix:], axis=1)
