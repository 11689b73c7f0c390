"""Position embeddings: sine-cosine tables, relative positions between views, and interpolation."""

import functools

import numpy as np
from keras import ops

from keras_siamim.types import ArrayLike, Tensor

AXIS_ORDERS = ("rows_first", "columns_first")


def frequencies(width: int) -> np.ndarray:
    """Return the angular frequencies of one coordinate, `10000 ** (-k / width)` for k in [0, width), (width,) float64.

    Example:
        >>> frequencies(2)
        array([1.  , 0.01])
    """
    return 10000.0 ** (-np.arange(width, dtype="float64") / width)


@functools.lru_cache(maxsize=64)
def sincos_position_table(grid: tuple[int, int], width: int, axis_order: str = "rows_first") -> np.ndarray:
    """Return the fixed 2-D sine-cosine position embedding of a patch grid (MAE, arXiv 2111.06377, appendix A.1).

    Each half of the channels encodes one coordinate p as [sin(p w), cos(p w)] at `width // 4` frequencies w.

    Args:
        grid: (rows, columns) of the patch grid.
        width: int, a multiple of 4. Number of channels.
        axis_order: `"rows_first"` or `"columns_first"`. Coordinate that the first half of the channels encodes: the row
            (SiameseIM, MoCo v3) or the column (MAE's released weights). Defaults to `"rows_first"`.

    Returns:
        NumPy array (rows * columns, width) float32, row-major. It is cached and read-only.

    Raises:
        ValueError: If `width` is not a multiple of 4 or `axis_order` is unknown.

    Example:
        >>> sincos_position_table((2, 3), 8).shape
        (6, 8)
    """
    if width % 4:
        raise ValueError(f"`width` must be a multiple of 4, for sine-cosine positions. Received: {width}.")
    if axis_order not in AXIS_ORDERS:
        raise ValueError(f"`axis_order` must be one of {AXIS_ORDERS}. Received: {axis_order!r}.")
    row, column = np.meshgrid(np.arange(grid[0]), np.arange(grid[1]), indexing="ij")
    first, second = (row, column) if axis_order == "rows_first" else (column, row)
    angles = [coordinate.reshape(-1, 1) * frequencies(width // 4) for coordinate in (first, second)]
    table = np.concatenate([f(angle) for angle in angles for f in (np.sin, np.cos)], axis=1).astype("float32")
    table.flags.writeable = False
    return table


def sincos_embedding(coordinate: Tensor, width: int) -> Tensor:
    """Return sines and cosines of one coordinate at `width` frequencies.

    Args:
        coordinate: (...) float32.
        width: int. Number of frequencies.

    Returns:
        (..., 2 * width) float32: all sines, then all cosines.

    Example:
        >>> keras.ops.convert_to_numpy(sincos_embedding(keras.ops.zeros((1,)), 2))
        array([[0., 0., 1., 1.]], dtype=float32)
    """
    angle = coordinate[..., None] * ops.convert_to_tensor(frequencies(width).astype("float32"))
    return ops.concatenate([ops.sin(angle), ops.cos(angle)], axis=-1)


def relative_positions(
    relative_affine: Tensor, grid_1: tuple[int, int], grid_2: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return centers and sizes of view 2's patches, in units of view 1's patches (SiameseIM, section 3.2).

    Args:
        relative_affine: (batch, 4) float32: offset_y, offset_x, scale_y, scale_x, see `keras_siamim.batch`.
        grid_1: (rows, columns) of view 1.
        grid_2: (rows, columns) of view 2.

    Returns:
        Four float32 tensors: `y` (batch, rows_2) and `x` (batch, columns_2), 0 at the center of view 1's first patch;
        `height` and `width` (batch,), above 0.

    Example:
        >>> y, x, height, width = relative_positions(np.float32([[0, 1, 1, -1]]), (2, 2), (2, 2))  # flipped
        >>> keras.ops.convert_to_numpy(x)
        array([[1., 0.]], dtype=float32)
    """
    affine = ops.stop_gradient(ops.cast(relative_affine, "float32"))
    coordinates, sizes = [], []
    for axis in (0, 1):
        offset, scale = affine[:, axis], affine[:, 2 + axis]
        centers = ops.convert_to_tensor(((np.arange(grid_2[axis]) + 0.5) / grid_2[axis]).astype("float32"))
        coordinates.append((offset[:, None] + scale[:, None] * centers) * grid_1[axis] - 0.5)
        sizes.append(ops.abs(scale) * (grid_1[axis] / grid_2[axis]))
    y, x = coordinates
    height, width = sizes
    return y, x, height, width


def relative_position_embedding(
    relative_affine: Tensor, grid_1: tuple[int, int], grid_2: tuple[int, int], width: int, with_scale: bool = True
) -> Tensor:
    """Return the embedding of view 2's patch positions relative to view 1 (SiameseIM, section 3.2, equation 4).

    Args:
        relative_affine: (batch, 4) float32: offset_y, offset_x, scale_y, scale_x, see `keras_siamim.batch`.
        grid_1: (rows, columns) of view 1.
        grid_2: (rows, columns) of view 2.
        width: int, a multiple of 4. Decoder width.
        with_scale: bool. Whether to embed the sizes of view 2's patches too. Defaults to True.

    Returns:
        (batch, rows_2 * columns_2, 2 * width) float32 with the channels [sin y, cos y, sin x, cos x, sin h, cos h,
        sin w, cos w], where h and w are 10 * log of the patch's height and width. Without scale, the first `width`
        channels.

    Example:
        >>> affine = np.float32([[0.25, 0.25, 0.5, 0.5]])
        >>> tuple(relative_position_embedding(affine, (4, 4), (2, 3), width=8).shape)
        (1, 6, 16)
    """
    y, x, patch_height, patch_width = relative_positions(relative_affine, grid_1, grid_2)
    rows, columns = grid_2

    def to_patches(embedding):
        # Rows along axis 1, columns along axis 2.
        return ops.broadcast_to(embedding, (ops.shape(relative_affine)[0], rows, columns, width // 2))

    chunks = [
        to_patches(sincos_embedding(y, width // 4)[:, :, None]),
        to_patches(sincos_embedding(x, width // 4)[:, None, :]),
    ]
    if with_scale:
        chunks += [
            to_patches(sincos_embedding(10.0 * ops.log(size), width // 4)[:, None, None])
            for size in (patch_height, patch_width)
        ]
    embedding = ops.concatenate(chunks, axis=-1)
    return ops.reshape(embedding, (-1, rows * columns, embedding.shape[-1]))


def _cubic_weights(size_from: int, size_to: int, sharpness: float = -0.75) -> np.ndarray:
    """Return the matrix (size_to, size_from) of cubic convolution at half-pixel centers, with repeated borders."""
    center = (np.arange(size_to) + 0.5) * size_from / size_to - 0.5
    weights = np.zeros((size_to, size_from))
    for tap in range(-1, 3):
        index = np.floor(center).astype(int) + tap
        distance = np.abs(center - index)
        near = (sharpness + 2) * distance**3 - (sharpness + 3) * distance**2 + 1
        far = sharpness * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        np.add.at(
            weights,
            (np.arange(size_to), np.clip(index, 0, size_from - 1)),
            np.where(distance <= 1, near, np.where(distance < 2, far, 0.0)),
        )
    return weights


def interpolate_positions(table: ArrayLike, grid_from: tuple[int, int], grid_to: tuple[int, int]) -> np.ndarray:
    """Resize a position embedding to another patch grid: bicubic (a = -0.75), half-pixel centers, no antialiasing.

    Args:
        table: Array (extra + rows * columns, width). The first `extra` rows belong to other tokens and are kept.
        grid_from: (rows, columns) of `table`.
        grid_to: (rows, columns) of the result.

    Returns:
        NumPy array (extra + rows_to * columns_to, width) float32.

    Raises:
        ValueError: If `table` has fewer rows than `grid_from` has patches.

    Example:
        >>> interpolate_positions(np.zeros((1 + 4, 8)), (2, 2), (3, 5)).shape
        (16, 8)
    """
    table = np.asarray(table, dtype="float64")
    extra = len(table) - grid_from[0] * grid_from[1]
    if table.ndim != 2 or extra < 0:
        raise ValueError(
            f"`table` must be a matrix of at least one row per patch of `grid_from`, {tuple(grid_from)}. Received: "
            f"shape {table.shape}."
        )
    patches = table[extra:].reshape(*grid_from, -1)
    vertical, horizontal = (_cubic_weights(*sizes) for sizes in zip(grid_from, grid_to, strict=True))
    resized = np.einsum("Rr,Cc,rcw->RCw", vertical, horizontal, patches).reshape(grid_to[0] * grid_to[1], -1)
    return np.concatenate([table[:extra], resized]).astype("float32")


def resize_positions(patches: Tensor, grid_from: tuple[int, int], grid_to: tuple[int, int]) -> Tensor:
    """Resize a learned position embedding as `interpolate_positions` does, as a differentiable tensor operation.

    Args:
        patches: (rows * columns, width) float32.
        grid_from: (rows, columns) of `patches`.
        grid_to: (rows, columns) of the result.

    Returns:
        (rows_to * columns_to, width) float32.

    Example:
        >>> tuple(resize_positions(keras.ops.zeros((4, 8)), (2, 2), (3, 5)).shape)
        (15, 8)
    """
    vertical, horizontal = (
        ops.convert_to_tensor(_cubic_weights(*sizes).astype("float32"))
        for sizes in zip(grid_from, grid_to, strict=True)
    )
    cells = ops.reshape(patches, (*grid_from, -1))
    return ops.reshape(ops.einsum("Rr,Cc,rcw->RCw", vertical, horizontal, cells), (grid_to[0] * grid_to[1], -1))
