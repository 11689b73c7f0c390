"""Images to tokens and back, and choosing among tokens."""

from keras import ops


def patchify(images, patch_size, data_format="channels_last"):
    """Cut images into flat, non-overlapping square patches, row by row.

    Args:
        images: (batch, height, width, channels), or (batch, channels, height, width) with `channels_first`. Height and
            width are static multiples of `patch_size`.
        patch_size: Side of a patch in pixels.
        data_format: `"channels_last"` or `"channels_first"`.

    Returns:
        (batch, rows * columns, patch_size * patch_size * channels), same dtype; within a patch the order is
        (row, column, channel) for both data formats.
    """
    if data_format == "channels_first":
        images = ops.transpose(images, (0, 2, 3, 1))
    _, height, width, channels = images.shape
    rows, columns = height // patch_size, width // patch_size
    cells = ops.reshape(images, (-1, rows, patch_size, columns, patch_size, channels))
    cells = ops.transpose(cells, (0, 1, 3, 2, 4, 5))
    return ops.reshape(cells, (-1, rows * columns, patch_size * patch_size * channels))


def unpatchify(patches, grid, patch_size):
    """Undo `patchify`.

    Args:
        patches: (batch, rows * columns, patch_size * patch_size * channels).
        grid: (rows, columns).
        patch_size: Side of a patch in pixels.

    Returns:
        Images (batch, rows * patch_size, columns * patch_size, channels), same dtype.
    """
    rows, columns = grid
    channels = patches.shape[-1] // patch_size**2
    cells = ops.reshape(patches, (-1, rows, columns, patch_size, patch_size, channels))
    cells = ops.transpose(cells, (0, 1, 3, 2, 4, 5))
    return ops.reshape(cells, (-1, rows * patch_size, columns * patch_size, channels))


def gather_tokens(tokens, ids):
    """Pick tokens by their number, image by image.

    Args:
        tokens: (batch, tokens, width).
        ids: (batch, picked) int32.

    Returns:
        (batch, picked, width), in the order of `ids`.
    """
    return ops.take_along_axis(tokens, ids[:, :, None], axis=1)


def standardize(x, epsilon):
    """Zero mean and unit (biased) variance over the last axis, in float32: a LayerNorm without affine.

    Args:
        x: (..., width), any float dtype.
        epsilon: Added to the variance.

    Returns:
        (..., width) float32.
    """
    x = ops.cast(x, "float32")
    centered = x - ops.mean(x, axis=-1, keepdims=True)
    return centered * ops.rsqrt(ops.mean(ops.square(centered), axis=-1, keepdims=True) + epsilon)


def masked_patches(visible_ids, patches):
    """Which patches are not visible.

    Args:
        visible_ids: (batch, visible) int32.
        patches: Patches of an image.

    Returns:
        (batch, patches) bool, True where masked.
    """
    number = ops.arange(patches, dtype="int32")[None, :, None]
    return ops.logical_not(ops.any(ops.equal(ops.cast(visible_ids, "int32")[:, None, :], number), axis=-1))


def restore_tokens(tokens, visible_ids, mask_token, patches):
    """Put visible tokens back to their places and the mask token everywhere else.

    Args:
        tokens: (batch, visible, width), the tokens of `visible_ids`.
        visible_ids: (batch, visible) int32, ascending.
        mask_token: (batch, 1, width).
        patches: Patches of an image.

    Returns:
        (batch, patches, width).
    """
    masked = masked_patches(visible_ids, patches)
    # Ascending numbers: the n-th visible patch is token n. The mask token stands behind them all.
    rank = ops.cumsum(ops.cast(ops.logical_not(masked), "int32"), axis=1) - 1
    source = ops.where(masked, visible_ids.shape[1], rank)
    return gather_tokens(ops.concatenate([tokens, mask_token], axis=1), source)
