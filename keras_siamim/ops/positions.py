"""Where patches are: sine-cosine tables, positions of one view's patches in another, resizing of learned tables."""

import functools

import numpy as np
from keras import ops

AXIS_ORDERS = ("rows_first", "columns_first")


def frequencies(width):
    """Frequencies of one coordinate: 10000^(-k / width) for k = 0...width-1, as (width,) float64."""
    return 10000.0 ** (-np.arange(width, dtype="float64") / width)


@functools.lru_cache(maxsize=64)
def sincos_position_table(grid, width, axis_order="rows_first"):
    """Fixed 2-D sine-cosine position embedding of a patch grid (MAE, arXiv 2111.06377, appendix A.1).

    Each half of the channels encodes one coordinate as [sin(p w), cos(p w)].

    Args:
        grid: (rows, columns) of the patch grid, any two positive whole numbers.
        width: Channels, a multiple of 4.
        axis_order: `"rows_first"`: the first half of the channels encodes the row (SiameseIM, MoCo v3);
            `"columns_first"`: the column (MAE's released weights).

    Returns:
        NumPy array (rows * columns, width) float32, read-only, row-major.

    Raises:
        ValueError: If `width` is not a multiple of 4 or `axis_order` is unknown.

    Example:
        >>> sincos_position_table((2, 3), 8).shape
        (6, 8)
    """
    if width % 4:
        raise ValueError(f"`width` of a sine-cosine position embedding must be a multiple of 4. Received: {width}.")
    if axis_order not in AXIS_ORDERS:
        raise ValueError(f"`axis_order` must be one of {AXIS_ORDERS}. Received: {axis_order!r}.")
    row, column = np.meshgrid(np.arange(grid[0]), np.arange(grid[1]), indexing="ij")
    first, second = (row, column) if axis_order == "rows_first" else (column, row)
    angles = [coordinate.reshape(-1, 1) * frequencies(width // 4) for coordinate in (first, second)]
    table = np.concatenate([f(angle) for angle in angles for f in (np.sin, np.cos)], axis=1).astype("float32")
    table.flags.writeable = False
    return table


def sincos_embedding(coordinate, width):
    """Sine and cosine of one coordinate at `width` frequencies.

    Args:
        coordinate: (...) float32.
        width: Number of frequencies.

    Returns:
        (..., 2 * width) float32: all sines, then all cosines.
    """
    angle = coordinate[..., None] * ops.convert_to_tensor(frequencies(width).astype("float32"))
    return ops.concatenate([ops.sin(angle), ops.cos(angle)], axis=-1)


def relative_positions(relative_affine, grid_1, grid_2):
    """Centers and sizes of view 2's patches, in units of view 1's patches (SiameseIM, section 3.2).

    Args:
        relative_affine: (batch, 4) float32: offset_y, offset_x, scale_y, scale_x; a point of view 2 lies at
            `offset + scale * point` of view 1, both in units of their view.
        grid_1: (rows, columns) of view 1.
        grid_2: (rows, columns) of view 2.

    Returns:
        Four float32 tensors: `y` (batch, rows_2) and `x` (batch, columns_2), zero at the center of view 1's first
        patch; `height` and `width` (batch,), positive.
    """
    affine = ops.stop_gradient(ops.cast(relative_affine, "float32"))
    coordinates, sizes = [], []
    for axis in (0, 1):
        offset, scale = affine[:, axis], affine[:, 2 + axis]
        centers = ops.convert_to_tensor(((np.arange(grid_2[axis]) + 0.5) / grid_2[axis]).astype("float32"))
        coordinates.append((offset[:, None] + scale[:, None] * centers) * grid_1[axis] - 0.5)
        sizes.append(ops.abs(scale) * (grid_1[axis] / grid_2[axis]))
    return *coordinates, *sizes


def relative_position_embedding(relative_affine, grid_1, grid_2, width, with_scale=True):
    """Embedding that tells the decoder where view 2's patches lie in view 1 (SiameseIM, section 3.2, equation 4).

    Args:
        relative_affine: (batch, 4) float32, see `relative_positions`.
        grid_1: (rows, columns) of view 1.
        grid_2: (rows, columns) of view 2.
        width: Decoder width, a multiple of 4.
        with_scale: Whether the size of view 2's patches is told beside their place.

    Returns:
        (batch, rows_2 * columns_2, 2 * width) float32 with the channels [sin y, cos y, sin x, cos x, sin h, cos h,
        sin w, cos w], where h and w are 10 * log of the patch's height and width; `width` channels without scale.
    """
    y, x, patch_height, patch_width = relative_positions(relative_affine, grid_1, grid_2)
    rows, columns = grid_2

    def spread(embedding):
        """To every patch: rows along axis 1, columns along axis 2."""
        return ops.broadcast_to(embedding, (ops.shape(relative_affine)[0], rows, columns, width // 2))

    chunks = [
        spread(sincos_embedding(y, width // 4)[:, :, None]),
        spread(sincos_embedding(x, width // 4)[:, None, :]),
    ]
    if with_scale:
        chunks += [
            spread(sincos_embedding(10.0 * ops.log(size), width // 4)[:, None, None])
            for size in (patch_height, patch_width)
        ]
    embedding = ops.concatenate(chunks, axis=-1)
    return ops.reshape(embedding, (-1, rows * columns, embedding.shape[-1]))


def _cubic_weights(size_from, size_to, sharpness=-0.75):
    """Matrix (size_to, size_from) of cubic-convolution interpolation at half-pixel centers, border repeated."""
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


def interpolate_positions(table, grid_from, grid_to):
    """Resize a position embedding to another patch grid: bicubic (a = -0.75), half-pixel centers, no antialiasing.

    Args:
        table: Array (rows * columns, width) or, with leading tokens that are kept, (extra + rows * columns, width).
        grid_from: (rows, columns) of `table`.
        grid_to: (rows, columns) wanted.

    Returns:
        NumPy array (extra + rows_to * columns_to, width) float32.

    Raises:
        ValueError: If `table` has fewer rows than `grid_from` has patches.
    """
    table = np.asarray(table, dtype="float64")
    extra = len(table) - grid_from[0] * grid_from[1]
    if table.ndim != 2 or extra < 0:
        raise ValueError(f"`table` of shape {table.shape} is smaller than `grid_from` {tuple(grid_from)}.")
    patches = table[extra:].reshape(*grid_from, -1)
    vertical, horizontal = (_cubic_weights(*sizes) for sizes in zip(grid_from, grid_to, strict=True))
    resized = np.einsum("Rr,Cc,rcw->RCw", vertical, horizontal, patches).reshape(grid_to[0] * grid_to[1], -1)
    return np.concatenate([table[:extra], resized]).astype("float32")


def resize_positions(patches, grid_from, grid_to):
    """`interpolate_positions` of a tensor, for positions that are being learned.

    Args:
        patches: (rows * columns, width) float32.
        grid_from: (rows, columns) of `patches`.
        grid_to: (rows, columns) wanted.

    Returns:
        (rows_to * columns_to, width) float32.
    """
    vertical, horizontal = (
        ops.convert_to_tensor(_cubic_weights(*sizes).astype("float32"))
        for sizes in zip(grid_from, grid_to, strict=True)
    )
    cells = ops.reshape(patches, (*grid_from, -1))
    return ops.reshape(ops.einsum("Rr,Cc,rcw->RCw", vertical, horizontal, cells), (grid_to[0] * grid_to[1], -1))
