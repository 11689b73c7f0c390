"""Update rules of AdamW and of the momentum target, variable by variable."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_siamim.types import Tensor


def adamw_update(
    weight: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    rate: Tensor,
    decay: Tensor,
    step: Tensor,
    due: Tensor,
    factor: Tensor,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute one AdamW step of one weight tensor.

    Args:
        weight: Tensor.
        gradient: Tensor, same shape. May hold any values if `due` is False.
        first: Tensor, same shape. First moment.
        second: Tensor, same shape. Second moment.
        rate: Scalar. Learning rate.
        decay: Scalar. Weight decay.
        step: float scalar. Number of the step, from 1.
        due: bool scalar. Whether to take the step; if False, the results equal the inputs.
        factor: Scalar. Factor of the gradient, 1 unless it is clipped.
        beta_1: float. Decay of the first moment.
        beta_2: float. Decay of the second moment.
        epsilon: float. Added to the bias-corrected root of the second moment.

    Returns:
        Weight, first moment and second moment after the step.
    """
    # Arithmetic instead of a branch: replicas cannot branch together, and a branch would make the host wait.
    taken = ops.cast(due, weight.dtype)
    gradient = ops.where(due, gradient * ops.cast(factor, gradient.dtype), ops.zeros_like(gradient))
    rate = rate * taken
    first = first + (gradient - first) * ((1 - beta_1) * taken)
    second = second + (ops.square(gradient) - second) * ((1 - beta_2) * taken)
    denominator = ops.sqrt(second / (1 - ops.power(beta_2, step))) + epsilon
    weight = weight - weight * (rate * decay)
    return weight - rate / (1 - ops.power(beta_1, step)) * first / denominator, first, second


def update_one_by_one(
    update: Callable[..., tuple[Tensor, Tensor, Tensor]],
    weights: Sequence[keras.Variable],
    gradients: Sequence[Tensor],
    first_moments: Sequence[keras.Variable],
    second_moments: Sequence[keras.Variable],
    rate: Tensor,
    scales: Sequence[float],
    decays: Sequence[float],
    step: Tensor,
    *others: Any,
) -> None:
    """Update each weight and its moments in turn.

    Args:
        update: `adamw_update` or a compiled form of it.
        weights: Variables.
        gradients: Tensors, one per weight.
        first_moments: Variables, one per weight.
        second_moments: Variables, one per weight.
        rate: Scalar. Learning rate.
        scales: float per weight. Factor of the learning rate.
        decays: float per weight. Weight decay.
        step: float scalar. Number of the step, from 1.
        *others: Remaining arguments of `update`.
    """
    for weight, gradient, first, second, scale, decay in zip(
        weights, gradients, first_moments, second_moments, scales, decays, strict=True
    ):
        dtype = weight.dtype
        old = [ops.convert_to_tensor(x, dtype) for x in (weight, gradient, first, second)]
        scalars = [ops.cast(x, dtype) for x in (rate * scale, decay, step)]
        for variable, new in zip((weight, first, second), update(*old, *scalars, *others), strict=True):
            variable.assign(new)


def ema_update(variables: Sequence[keras.Variable], others: Sequence[keras.Variable], rate: Tensor) -> None:
    """Assign `variable + rate * (other - variable)` to each variable; `rate` is a float32 scalar."""
    for variable, other in zip(variables, others, strict=True):
        variable.assign(variable + ops.cast(rate, variable.dtype) * (other - variable))


def global_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of all tensors together, float32."""
    return ops.sqrt(sum(ops.sum(ops.square(ops.cast(tensor, "float32"))) for tensor in tensors))
