"""PyTorch: on a CPU it hands float32 products to MKL, which leaves half of an AMD processor idle; oneDNN does not."""

import torch
from keras import ops
from torch.autograd.function import once_differentiable

from keras_siamim._backend.kernels.heads import attend, join_heads, split_heads

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
