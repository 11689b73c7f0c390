"""Conversion between images and patches, and selection of tokens."""

from keras import ops

from keras_siamim.types import Tensor

DATA_FORMATS = ("channels_last", "channels_first")


def check_data_format(data_format: str) -> str:
    """Return `data_format` after checking that it is one of `DATA_FORMATS`.

    Raises:
        ValueError: If it is not.

    Example:
        >>> from keras_siamim.ops.tokens import check_data_format
        >>> check_data_format("channels_first")
        'channels_first'
    """
    if data_format not in DATA_FORMATS:
        raise ValueError(f"`data_format` must be one of {DATA_FORMATS}. Received: {data_format!r}.")
    return data_format


def patchify(images: Tensor, patch_size: int, data_format: str = "channels_last") -> Tensor:
    """Split images into flat, non-overlapping square patches, row by row.

    Args:
        images: (batch, height, width, channels), or (batch, channels, height, width) with `"channels_first"`. Height
            and width must be static multiples of `patch_size`.
        patch_size: int. Side of a patch in pixels.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to `"channels_last"`.

    Returns:
        (batch, rows * columns, patch_size * patch_size * channels), same dtype. Within a patch the order is
        (row, column, channel) for both data formats.

    Raises:
        ValueError: If `data_format` is unknown.

    Example:
        >>> from keras_siamim.ops import patchify
        >>> tuple(patchify(keras.ops.zeros((2, 8, 12, 3)), patch_size=4).shape)
        (2, 6, 48)
    """
    if check_data_format(data_format) == "channels_first":
        images = ops.transpose(images, (0, 2, 3, 1))
    _, height, width, channels = images.shape
    rows, columns = height // patch_size, width // patch_size
    cells = ops.reshape(images, (-1, rows, patch_size, columns, patch_size, channels))
    cells = ops.transpose(cells, (0, 1, 3, 2, 4, 5))
    return ops.reshape(cells, (-1, rows * columns, patch_size * patch_size * channels))


def unpatchify(patches: Tensor, grid: tuple[int, int], patch_size: int) -> Tensor:
    """Assemble images from flat patches, the inverse of `patchify`.

    Args:
        patches: (batch, rows * columns, patch_size * patch_size * channels).
        grid: (rows, columns).
        patch_size: int. Side of a patch in pixels.

    Returns:
        Images (batch, rows * patch_size, columns * patch_size, channels), same dtype.

    Example:
        >>> from keras_siamim.ops import unpatchify
        >>> tuple(unpatchify(keras.ops.zeros((2, 6, 48)), grid=(2, 3), patch_size=4).shape)
        (2, 8, 12, 3)
    """
    rows, columns = grid
    channels = patches.shape[-1] // patch_size**2
    cells = ops.reshape(patches, (-1, rows, columns, patch_size, patch_size, channels))
    cells = ops.transpose(cells, (0, 1, 3, 2, 4, 5))
    return ops.reshape(cells, (-1, rows * patch_size, columns * patch_size, channels))


def gather_tokens(tokens: Tensor, ids: Tensor) -> Tensor:
    """Select tokens by index, per image.

    Args:
        tokens: (batch, tokens, width).
        ids: (batch, selected) int32. Indices of tokens.

    Returns:
        (batch, selected, width), in the order of `ids`.

    Example:
        >>> from keras_siamim.ops import gather_tokens
        >>> gather_tokens(np.array([[[1.0], [2.0], [3.0]]]), np.array([[2, 0]])).numpy().ravel()
        array([3., 1.])
    """
    return ops.take_along_axis(tokens, ids[:, :, None], axis=1)


def standardize(x: Tensor, epsilon: float) -> Tensor:
    """Standardize the last axis to zero mean and unit (biased) variance, as a LayerNorm without weights in float32.

    Args:
        x: (..., width), any float dtype.
        epsilon: float. Added to the variance.

    Returns:
        (..., width) float32.

    Example:
        >>> from keras_siamim.ops import standardize
        >>> standardize(np.array([1.0, 3.0]), epsilon=0.0).numpy()
        array([-1.,  1.], dtype=float32)
    """
    x = ops.cast(x, "float32")
    centered = x - ops.mean(x, axis=-1, keepdims=True)
    return centered * ops.rsqrt(ops.mean(ops.square(centered), axis=-1, keepdims=True) + epsilon)


def masked_patches(visible_ids: Tensor, patches: int) -> Tensor:
    """Return the mask of the patches that are not visible.

    Args:
        visible_ids: (batch, visible) int32. Indices of the visible patches.
        patches: int. Number of patches per image.

    Returns:
        (batch, patches) bool, True where masked.

    Example:
        >>> from keras_siamim.ops import masked_patches
        >>> masked_patches(np.array([[0, 2]]), 3).numpy()
        array([[False,  True, False]])
    """
    index = ops.arange(patches, dtype="int32")[None, :, None]
    return ops.logical_not(ops.any(ops.equal(ops.cast(visible_ids, "int32")[:, None, :], index), axis=-1))


def restore_tokens(tokens: Tensor, visible_ids: Tensor, mask_token: Tensor, patches: int) -> Tensor:
    """Restore the full token sequence: visible tokens at their positions, the mask token at all others.

    Args:
        tokens: (batch, visible, width). Tokens of the visible patches.
        visible_ids: (batch, visible) int32. Indices of the visible patches, ascending.
        mask_token: (batch, 1, width).
        patches: int. Number of patches per image.

    Returns:
        (batch, patches, width).

    Example:
        >>> from keras_siamim.ops import restore_tokens
        >>> tokens, mask_token = np.array([[[1.0], [2.0]]]), np.array([[[9.0]]])
        >>> restore_tokens(tokens, np.array([[0, 2]]), mask_token, patches=4).numpy().ravel()
        array([1., 9., 2., 9.])
    """
    masked = masked_patches(visible_ids, patches)
    # Indices ascend, so the n-th visible patch is token n. The mask token follows the last visible token.
    rank = ops.cumsum(ops.cast(ops.logical_not(masked), "int32"), axis=1) - 1
    source = ops.where(masked, visible_ids.shape[1], rank)
    return gather_tokens(ops.concatenate([tokens, mask_token], axis=1), source)
