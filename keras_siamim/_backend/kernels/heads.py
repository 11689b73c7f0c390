"""Attention heads: splitting, joining, and attention by plain matrix products."""

from keras import ops

from keras_siamim.types import Tensor


def split_heads(qkv: Tensor, num_heads: int) -> list[Tensor]:
    """Split fused projections into queries, keys and values.

    Args:
        qkv: (batch, tokens, 3 * width). The columns are ordered (q | k | v), each (head, channel).
        num_heads: int. Number of heads.

    Returns:
        Three tensors (batch, heads, tokens, channels).
    """
    _, tokens, columns = qkv.shape
    parts = ops.reshape(qkv, (-1, tokens, 3, num_heads, columns // 3 // num_heads))
    # One transposition here puts heads before tokens; otherwise both products would transpose.
    return ops.unstack(ops.transpose(parts, (2, 0, 3, 1, 4)), 3, axis=0)


def join_heads(mixed: Tensor) -> Tensor:
    """Join heads: (batch, heads, tokens, channels) to (batch, tokens, heads * channels)."""
    _, heads, tokens, channels = mixed.shape
    return ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, tokens, heads * channels))


def attend(qkv: Tensor, num_heads: int, bias: Tensor | None = None) -> Tensor:
    """Compute self-attention by two batched products, with the softmax in float32; arguments as in `split_heads`.

    `bias`, (heads, tokens, tokens), is added to the scaled logits.
    """
    query, key, value = split_heads(qkv, num_heads)
    scale = query.shape[-1] ** -0.5
    logits = ops.matmul(query * scale, ops.transpose(key, (0, 1, 3, 2)))
    logits = ops.cast(logits, "float32")
    if bias is not None:
        logits += ops.cast(bias, "float32")
    weights = ops.cast(ops.softmax(logits), value.dtype)
    return join_heads(ops.matmul(weights, value))
