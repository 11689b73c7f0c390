"""Where the two views of a pair lie on their image, and so in each other (arXiv 2206.01204, section 3.2).

A *crop* is five numbers `(top, left, height, width, flip)`: a box in pixels of the image as the view saw it, that is
after the horizontal flip if `flip` is 1. `pair_geometry` and
`relative_affine` are arithmetic that NumPy and TensorFlow share.
"""

from typing import NamedTuple

import numpy as np

TOP, LEFT, HEIGHT, WIDTH, FLIP = range(5)


class Geometry(NamedTuple):
    """The six numbers of the paper's program for a pair of views; each field has shape `(...)`.

    Lengths are in units of view 1's crop: `delta_*` for its height or width, from its top left corner.
    """

    delta_i: np.ndarray
    delta_j: np.ndarray
    delta_h: np.ndarray
    delta_w: np.ndarray
    relative_flip: np.ndarray
    flip_delta_j: np.ndarray


def pair_geometry(crop_1, crop_2, image_width):
    """Relate two crops of one image.

    Args:
        crop_1: `(..., 5)` floats `(top, left, height, width, flip)` of the online view, in pixels of the image after
            its flip; height and width above 0, flip 0 or 1.
        crop_2: `(..., 5)`, the same for the target view.
        image_width: `(...)` width of the whole image in pixels, float.

    Returns:
        A `Geometry` of arrays or tensors, whichever came in, of shape `(...)`.
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


def relative_affine(geometry, xp=np):
    """Fold the six numbers into one affine map per axis, `x_1 = offset + scale * x_2`.

    Args:
        geometry: a `Geometry`, or any mapping or sequence of its six fields, each `(...)`.
        xp: `numpy`, `tensorflow` or `keras.ops`: whose arrays the fields are.

    Returns:
        `(..., 4)` numbers `offset_y, offset_x, scale_y, scale_x`, in units of each view; `scale_x` is negative exactly
        when one of the two views is flipped.
    """
    found = Geometry(**geometry) if hasattr(geometry, "keys") else Geometry(*geometry)
    flipped = found.relative_flip
    offset_x = found.delta_j * (1 - flipped) + found.flip_delta_j * flipped
    scale_x = found.delta_w * (1 - 2 * flipped)
    return xp.stack([found.delta_i, offset_x, found.delta_h, scale_x], axis=-1)


def affine_of_crops(crop_1, crop_2, image_width):
    """`relative_affine` straight from two crops of NumPy numbers, float32; arguments as in `pair_geometry`."""
    one, two, width = (np.asarray(values, np.float64) for values in (crop_1, crop_2, image_width))
    return relative_affine(pair_geometry(one, two, width)).astype("float32")


def patch_centers(grid):
    """Centers of a view's patches, in units of the view.

    Args:
        grid: `(rows, columns)` of patches.

    Returns:
        `(rows * columns, 2)` float32 points `(y, x)` in 0...1, row by row.
    """
    rows, columns = grid
    y, x = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij")
    return np.stack([y, x], axis=-1).reshape(-1, 2).astype("float32")


def view_2_to_view_1(points, affine):
    """Carry points of view 2 into view 1.

    Args:
        points: `(points, 2)` points `(y, x)` in units of view 2.
        affine: `(..., 4)` relative affine maps.

    Returns:
        `(..., points, 2)` points `(y, x)` in units of view 1; outside 0...1 where view 1 does not show them.
    """
    affine = np.asarray(affine)[..., None, :]
    return affine[..., :2] + affine[..., 2:] * np.asarray(points)


def view_to_image(points, crop, image_width):
    """Carry points of a view onto the unflipped image.

    Args:
        points: `(..., points, 2)` points `(y, x)` in units of the view.
        crop: `(..., 5)` the view's crop.
        image_width: `(...)` width of the whole image in pixels.

    Returns:
        `(..., points, 2)` points `(y, x)` in pixels, where pixel k spans k...k + 1.
    """
    crop = np.asarray(crop, np.float64)[..., None, :]
    y = crop[..., TOP] + points[..., 0] * crop[..., HEIGHT]
    x = crop[..., LEFT] + points[..., 1] * crop[..., WIDTH]
    width = np.asarray(image_width, np.float64)[..., None]
    return np.stack([y, np.where(crop[..., FLIP] > 0.5, width - x, x)], axis=-1)
