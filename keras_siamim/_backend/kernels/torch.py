"""PyTorch kernels: oneDNN on CPUs, and fused attention, BatchNorm and AdamW."""

from collections.abc import Sequence

import keras
import torch
from keras import ops
from torch.autograd.function import once_differentiable

from keras_siamim._backend.kernels.heads import attend, join_heads, split_heads
from keras_siamim._backend.kernels.updates import adamw_update, update_one_by_one
from keras_siamim.types import Tensor

_FUSED = ("cpu", "cuda", "mps") if hasattr(torch, "_fused_adamw_") else ()
# On AMD CPUs, oneDNN is about twice as fast as MKL, PyTorch's default for float32 products.
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def dense(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `x @ kernel + bias`; x (..., inputs), kernel (inputs, outputs), bias (outputs,) or None."""
    kernel = ops.convert_to_tensor(kernel)
    if _supports_onednn(x, kernel):
        return _OneDnnDense.apply(x, kernel, bias if bias is None else ops.convert_to_tensor(bias))
    x = ops.matmul(x, kernel)
    return x if bias is None else ops.add(x, bias)


def gelu(x: Tensor, training: bool = False) -> Tensor:
    """Return the exact GELU; `training` has no effect on PyTorch."""
    return ops.gelu(x, approximate=False)


def self_attention(qkv: Tensor, num_heads: int) -> Tensor:
    """Compute self-attention: (batch, tokens, 3 * width), columns as in `split_heads`, to (batch, tokens, width)."""
    if not torch.is_tensor(qkv):  # a symbolic `KerasTensor`
        return attend(qkv, num_heads)
    # Called directly, because Keras's operation copies the transposed views first.
    return join_heads(torch.nn.functional.scaled_dot_product_attention(*split_heads(qkv, num_heads)))


def batch_norm(
    x: Tensor,
    gamma: keras.Variable | None,
    beta: keras.Variable | None,
    mean: keras.Variable,
    variance: keras.Variable,
    momentum: float,
    epsilon: float,
) -> Tensor:
    """Normalize a training batch (..., width) float32; `mean` and `variance`, the running averages, change in place."""
    weight, bias = (None if variable is None else ops.cast(variable, "float32") for variable in (gamma, beta))
    rows = x.reshape(-1, x.shape[-1])
    y = torch.nn.functional.batch_norm(rows, mean.value, variance.value, weight, bias, True, momentum, epsilon)
    return y.view(x.shape)


def adamw(
    weights: Sequence[keras.Variable],
    gradients: Sequence[Tensor],
    first_moments: Sequence[keras.Variable],
    second_moments: Sequence[keras.Variable],
    rate: Tensor,
    scales: Sequence[float],
    decays: Sequence[float],
    step: Tensor,
    due: Tensor,
    factor: Tensor,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None:
    """Update all weights and moments in one pass; arguments as in `updates.update_one_by_one` and `adamw_update`."""
    others = (step, due, factor, beta_1, beta_2, epsilon)
    tensors = [[variable.value.detach() for variable in group] for group in (weights, first_moments, second_moments)]
    if not all(_supports_fused(tensor) for group in tensors for tensor in group):
        update_one_by_one(
            adamw_update, weights, gradients, first_moments, second_moments, rate, scales, decays, *others
        )
        return
    # PyTorch's fused step takes one learning rate and one weight decay per call.
    groups: dict[tuple, list] = {}
    for weight, first, second, gradient, *key in zip(*tensors, gradients, scales, decays, strict=True):
        groups.setdefault(tuple(key), []).append((weight, gradient.float().contiguous(), first, second))
    for (scale, decay), members in groups.items():
        group_weights, group_gradients, group_firsts, group_seconds = map(list, zip(*members, strict=True))
        torch._fused_adamw_(
            group_weights,
            group_gradients,
            group_firsts,
            group_seconds,
            [],
            [step] * len(members),
            lr=rate * scale,
            beta1=beta_1,
            beta2=beta_2,
            weight_decay=decay,
            eps=epsilon,
            amsgrad=False,
            maximize=False,
            grad_scale=1.0 / factor,
            found_inf=1.0 - due.to(torch.float32),
        )


def _supports_fused(tensor):
    return tensor.dtype == torch.float32 and tensor.is_contiguous() and tensor.device.type in _FUSED


def global_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of all tensors together, float32."""
    return torch.nn.utils.get_total_norm([tensor.float() for tensor in tensors])


def ema_update(variables: Sequence[keras.Variable], others: Sequence[keras.Variable], rate: Tensor) -> None:
    """Assign `variable + rate * (other - variable)` to each variable; `rate` is a float32 scalar."""
    for variable, other in zip(variables, others, strict=True):
        variable.value.detach().lerp_(other.value.detach(), rate)


def _supports_onednn(x, kernel):
    return (
        _ONEDNN
        and torch.is_tensor(x)
        and x.device.type == "cpu"
        and x.dtype == kernel.dtype == torch.float32
        and x.numel() > 0
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def _product(a, b, bias=None):
    """Return `a @ b.T + bias` by oneDNN, which accepts transposed views without a copy."""
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")


class _OneDnnDense(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, kernel, bias):
        ctx.save_for_backward(x, kernel)
        return _product(x, kernel.t(), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, kernel = ctx.saved_tensors
        for_x, for_kernel, for_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])
        return (
            _product(gradient.contiguous(), kernel) if for_x else None,
            _product(x.reshape(-1, x.shape[-1]).t(), rows.t()) if for_kernel else None,
            rows.sum(0) if for_bias else None,
        )
