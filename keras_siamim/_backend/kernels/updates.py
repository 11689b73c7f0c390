"""The arithmetic of AdamW and of momentum targets, weight by weight."""

from keras import ops


def adamw_update(weight, gradient, first, second, rate, decay, step, due, factor, beta_1, beta_2, epsilon):
    """One weight tensor and its two moments after a step, or as they are where `due`, a bool scalar, is False.

    Without branches, which replicas could not take together and which would make an accelerator's host wait.

    Args:
        weight: Tensor.
        gradient: Of the weight; may hold anything where the step is not due.
        first: Moment.
        second: Moment.
        rate: Learning rate, a scalar.
        decay: Weight decay, a scalar.
        step: The step's number, from 1, a float scalar.
        due: Whether to take it.
        factor: What the gradient is multiplied with first, a scalar: 1 unless it is clipped.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: Added to the bias-corrected root of the second moment.
    """
    taken = ops.cast(due, weight.dtype)
    gradient = ops.where(due, gradient * ops.cast(factor, gradient.dtype), ops.zeros_like(gradient))
    rate = rate * taken
    first = first + (gradient - first) * ((1 - beta_1) * taken)
    second = second + (ops.square(gradient) - second) * ((1 - beta_2) * taken)
    denominator = ops.sqrt(second / (1 - ops.power(beta_2, step))) + epsilon
    weight = weight - weight * (rate * decay)
    return weight - rate / (1 - ops.power(beta_1, step)) * first / denominator, first, second


def step_one_by_one(function, weights, gradients, firsts, seconds, rate, scales, decays, step, *others):
    """Assign what `function`, which is `adamw_update` or a compiled form of it, gives for each variable."""
    for weight, gradient, first, second, scale, decay in zip(
        weights, gradients, firsts, seconds, scales, decays, strict=True
    ):
        dtype = weight.dtype
        old = [ops.convert_to_tensor(x, dtype) for x in (weight, gradient, first, second)]
        scalars = [ops.cast(x, dtype) for x in (rate * scale, decay, step)]
        for variable, new in zip((weight, first, second), function(*old, *scalars, *others), strict=True):
            variable.assign(new)


def ema_update(variables, others, rate):
    """Move each variable by a share `rate`, a float32 scalar, of the way to the other."""
    for variable, other in zip(variables, others, strict=True):
        variable.assign(variable + ops.cast(rate, variable.dtype) * (other - variable))


def global_norm(tensors):
    """Root of the sum of all squares of some tensors, float32."""
    return ops.sqrt(sum(ops.sum(ops.square(ops.cast(tensor, "float32"))) for tensor in tensors))
