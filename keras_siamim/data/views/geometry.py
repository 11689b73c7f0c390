"""Relative geometry of the two views of a pair (arXiv 2206.01204, section 3.2).

A *crop* is five numbers `(top, left, height, width, flip)`: a box in pixels of the image after its horizontal flip, if
`flip` is 1. `pair_geometry` and `relative_affine` work on NumPy arrays and TensorFlow tensors alike.
"""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np

from keras_siamim.types import ArrayLike, Tensor

TOP, LEFT, HEIGHT, WIDTH, FLIP = range(5)


class Geometry(NamedTuple):
    """Six geometry numbers of the paper's program for a pair of views.

    Every field has shape `(...)`. Lengths are in units of view 1's crop: offsets start at its top left corner, and its
    height or width is 1.

    Attributes:
        delta_i: Vertical offset of view 2.
        delta_j: Horizontal offset of view 2.
        delta_h: Height of view 2.
        delta_w: Width of view 2.
        relative_flip: 1 if exactly one of the views is flipped, else 0.
        flip_delta_j: Horizontal offset of view 2 if exactly one of the views is flipped.
    """

    delta_i: Tensor
    delta_j: Tensor
    delta_h: Tensor
    delta_w: Tensor
    relative_flip: Tensor
    flip_delta_j: Tensor


def pair_geometry(crop_1: Tensor, crop_2: Tensor, image_width: Tensor) -> Geometry:
    """Compute the relative geometry of two crops of one image.

    Args:
        crop_1: `(..., 5)` floats `(top, left, height, width, flip)`. Crop of the online view, in pixels of the image
            after its flip; height and width above 0, flip 0 or 1.
        crop_2: `(..., 5)` floats. Crop of the target view.
        image_width: `(...)` floats. Width of the complete image in pixels.

    Returns:
        A `Geometry` of arrays or tensors of shape `(...)`, of the type of the arguments.

    Example:
        >>> online, target = np.array([0.0, 0, 48, 64, 0]), np.array([12.0, 0, 24, 32, 0])
        >>> found = pair_geometry(online, target, 64)
        >>> float(found.delta_i), float(found.delta_h)
        (0.25, 0.5)
    """
    one, two = crop_1, crop_2
    return Geometry(
        delta_i=(two[..., TOP] - one[..., TOP]) / one[..., HEIGHT],
        delta_j=(two[..., LEFT] - one[..., LEFT]) / one[..., WIDTH],
        delta_h=two[..., HEIGHT] / one[..., HEIGHT],
        delta_w=two[..., WIDTH] / one[..., WIDTH],
        relative_flip=(two[..., FLIP] - one[..., FLIP]) ** 2,
        flip_delta_j=(image_width - one[..., LEFT] - two[..., LEFT]) / one[..., WIDTH],
    )


def relative_affine(geometry: Mapping[str, Tensor] | Sequence[Tensor], xp: ModuleType = np) -> Tensor:
    """Combine the six geometry numbers into one affine map per axis, `x_1 = offset + scale * x_2`.

    Args:
        geometry: `Geometry`, or any mapping or sequence of its six fields, each `(...)`. The relative geometry.
        xp: Module. `numpy`, `tensorflow` or `keras.ops`, as the fields require. Defaults to `numpy`.

    Returns:
        `(..., 4)` floats `offset_y, offset_x, scale_y, scale_x`, in units of each view. `scale_x` is negative exactly
        when one of the two views is flipped.

    Example:
        >>> relative_affine([0.25, 0.0, 0.5, 0.5, 0.0, 1.0]).tolist()
        [0.25, 0.0, 0.5, 0.5]
    """
    found = Geometry(**geometry) if isinstance(geometry, Mapping) else Geometry(*geometry)
    flipped = found.relative_flip
    offset_x = found.delta_j * (1 - flipped) + found.flip_delta_j * flipped
    scale_x = found.delta_w * (1 - 2 * flipped)
    return xp.stack([found.delta_i, offset_x, found.delta_h, scale_x], axis=-1)


def affine_of_crops(crop_1: ArrayLike, crop_2: ArrayLike, image_width: ArrayLike) -> np.ndarray:
    """Return the affine map from view 2 to view 1 for two crops, in NumPy.

    Args:
        crop_1: `(..., 5)` numbers. Crop of the online view, as in `pair_geometry`.
        crop_2: `(..., 5)` numbers. Crop of the target view.
        image_width: `(...)` numbers. Width of the complete image in pixels.

    Returns:
        `(..., 4)` float32, as `relative_affine` returns it.

    Example:
        >>> affine_of_crops([0, 0, 48, 64, 0], [0, 0, 48, 64, 1], 64).tolist()
        [0.0, 1.0, 1.0, -1.0]
    """
    one, two, width = (np.asarray(values, np.float64) for values in (crop_1, crop_2, image_width))
    return relative_affine(pair_geometry(one, two, width)).astype("float32")


def patch_centers(grid: tuple[int, int]) -> np.ndarray:
    """Return the centers of a view's patches, in units of the view.

    Args:
        grid: `(rows, columns)` ints. Patches of the view.

    Returns:
        `(rows * columns, 2)` float32 points `(y, x)` in [0, 1], in row-major order.

    Example:
        >>> patch_centers((1, 2)).tolist()
        [[0.5, 0.25], [0.5, 0.75]]
    """
    rows, columns = grid
    y, x = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij")
    return np.stack([y, x], axis=-1).reshape(-1, 2).astype("float32")


def view_2_to_view_1(points: ArrayLike, affine: ArrayLike) -> np.ndarray:
    """Map points of view 2 to view 1.

    Args:
        points: `(points, 2)` floats. Points `(y, x)` in units of view 2.
        affine: `(..., 4)` floats. Affine maps of `relative_affine`.

    Returns:
        `(..., points, 2)` points `(y, x)` in units of view 1. Points that view 1 does not show lie outside [0, 1].

    Example:
        >>> view_2_to_view_1([[0.5, 0.25]], [0.0, 1.0, 1.0, -1.0]).tolist()
        [[0.5, 0.75]]
    """
    affine = np.asarray(affine)[..., None, :]
    return affine[..., :2] + affine[..., 2:] * np.asarray(points)


def view_to_image(points: np.ndarray, crop: ArrayLike, image_width: ArrayLike) -> np.ndarray:
    """Map points of a view to the unflipped image.

    Args:
        points: `(..., points, 2)` floats. Points `(y, x)` in units of the view.
        crop: `(..., 5)` numbers. Crop of the view.
        image_width: `(...)` numbers. Width of the complete image in pixels.

    Returns:
        `(..., points, 2)` float64 points `(y, x)` in pixels; pixel k spans [k, k + 1].

    Example:
        >>> view_to_image(np.array([[0.5, 0.25]]), [0, 0, 48, 64, 1], 64).tolist()
        [[24.0, 48.0]]
    """
    crop = np.asarray(crop, np.float64)[..., None, :]
    y = crop[..., TOP] + points[..., 0] * crop[..., HEIGHT]
    x = crop[..., LEFT] + points[..., 1] * crop[..., WIDTH]
    width = np.asarray(image_width, np.float64)[..., None]
    return np.stack([y, np.where(crop[..., FLIP] > 0.5, width - x, x)], axis=-1)
