"""Tokens to heads and back."""

from keras import ops


def split_heads(qkv, num_heads):
    """(batch, tokens, 3 * width), columns (q | k | v) each (head, channel), to three (batch, heads, tokens, channels).

    Heads come before tokens at once, since products with heads behind tokens transpose both ways.
    """
    _, tokens, columns = qkv.shape
    parts = ops.reshape(qkv, (-1, tokens, 3, num_heads, columns // 3 // num_heads))
    return ops.unstack(ops.transpose(parts, (2, 0, 3, 1, 4)), 3, axis=0)


def join_heads(mixed):
    """(batch, heads, tokens, channels) to (batch, tokens, width)."""
    _, heads, tokens, channels = mixed.shape
    return ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, tokens, heads * channels))


def attend(qkv, num_heads):
    """Attention by two batched products, the softmax in float32; see `self_attention`."""
    query, key, value = split_heads(qkv, num_heads)
    scale = query.shape[-1] ** -0.5
    logits = ops.matmul(query * scale, ops.transpose(key, (0, 1, 3, 2)))
    weights = ops.cast(ops.softmax(ops.cast(logits, "float32")), value.dtype)
    return join_heads(ops.matmul(weights, value))
