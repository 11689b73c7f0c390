"""PyTorch: on a CPU it hands float32 products to MKL, which leaves half of an AMD processor idle; oneDNN does not."""

import torch
from keras import ops
from torch.autograd.function import once_differentiable

from keras_siamim._backend.kernels.heads import attend, join_heads, split_heads
from keras_siamim._backend.kernels.updates import adamw_update, step_one_by_one

_FUSED = ("cpu", "cuda", "mps") if hasattr(torch, "_fused_adamw_") else ()
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def dense(x, kernel, bias=None):
    """`x @ kernel + bias`; x (..., inputs), kernel (inputs, outputs), bias (outputs,) or None."""
    kernel = ops.convert_to_tensor(kernel)
    if _takes_onednn(x, kernel):
        return _OneDnnDense.apply(x, kernel, bias if bias is None else ops.convert_to_tensor(bias))
    x = ops.matmul(x, kernel)
    return x if bias is None else ops.add(x, bias)


def gelu(x, training=False):
    """Exact GELU."""
    return ops.gelu(x, approximate=False)


def self_attention(qkv, num_heads):
    """(batch, tokens, 3 * width), columns (q | k | v) each (head, channel), to (batch, tokens, width).

    PyTorch's fused attention takes transposed views; Keras copies them first.
    """
    if not torch.is_tensor(qkv):  # a description of a tensor
        return attend(qkv, num_heads)
    return join_heads(torch.nn.functional.scaled_dot_product_attention(*split_heads(qkv, num_heads)))


def batch_norm(x, gamma, beta, mean, variance, momentum, epsilon):
    """BatchNorm of a training batch (..., width), float32; `mean` and `variance`, running averages, move in place."""
    affine = [None if weight is None else ops.cast(weight, "float32") for weight in (gamma, beta)]
    rows = x.reshape(-1, x.shape[-1])
    y = torch.nn.functional.batch_norm(rows, mean.value, variance.value, *affine, True, momentum, epsilon)
    return y.view(x.shape)


def adamw(weights, gradients, firsts, seconds, rate, scales, decays, step, due, factor, beta_1, beta_2, epsilon):
    """A step of all weights in one pass over them; see `updates.adamw_update`."""
    others = (step, due, factor, beta_1, beta_2, epsilon)
    tensors = [[variable.value.detach() for variable in group] for group in (weights, firsts, seconds)]
    if not all(_takes_fused(tensor) for group in tensors for tensor in group):
        step_one_by_one(adamw_update, weights, gradients, firsts, seconds, rate, scales, decays, *others)
        return
    groups = {}
    for weight, first, second, gradient, *key in zip(*tensors, gradients, scales, decays, strict=True):
        groups.setdefault(tuple(key), []).append((weight, gradient.float().contiguous(), first, second))
    for (scale, decay), members in groups.items():
        of_group = [list(column) for column in zip(*members, strict=True)]
        torch._fused_adamw_(
            *of_group,
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


def _takes_fused(tensor):
    return tensor.dtype == torch.float32 and tensor.is_contiguous() and tensor.device.type in _FUSED


def global_norm(tensors):
    """Root of the sum of all squares of some tensors, float32."""
    return torch.nn.utils.get_total_norm([tensor.float() for tensor in tensors])


def ema_update(variables, others, rate):
    """Move each variable by a share `rate`, a float32 scalar, of the way to the other, in one pass."""
    for variable, other in zip(variables, others, strict=True):
        variable.value.detach().lerp_(other.value.detach(), rate)


def _takes_onednn(x, kernel):
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
    """`a @ b.T + bias` by oneDNN; transposed views are taken as they are."""
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
