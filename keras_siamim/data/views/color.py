"""Color operations and Gaussian blur as torchvision and PIL define them, for batches of images.

Every function takes `ops`, the module `tensorflow` or `keras.ops`, and calls only functions that both have. The input
pipeline and the training device therefore run the same code. Strengths are given per image, with shape `(batch,)`.

Images are *bands*: `(batch, height, 3, width)` float32 in [0, 255], the band-interleaved-by-line layout of remote
sensing. Each row of pixels is stored as one line per color.

The keras-cv layers of similar names compute other functions:

- RandomBrightness adds a share of the value range instead of scaling.
- RandomContrast scales about the mean of each channel instead of the mean gray.
- RandomHue and RandomSaturation work in HSV; saturation is scaled there instead of blended with gray.
- RandomGaussianBlur draws one kernel of a fixed size per call.
"""

import math
from types import ModuleType

import numpy as np

from keras_siamim.batch import IMAGENET_MEAN, IMAGENET_STD
from keras_siamim.types import ArrayLike, Tensor

GRAY_WEIGHTS = (0.299, 0.587, 0.114)
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
# Axes of bands.
HEIGHT, WIDTH = 1, 3
SOLARIZE_THRESHOLD = 128.0
# Statistics of ImageNet in gray levels, [0, 255].
MEAN = 255.0 * IMAGENET_MEAN
STD = 255.0 * IMAGENET_STD


# Neighbors within a line of bands are adjacent in memory, so blurring or resampling either axis is one plain matrix
# product for all three colors.
def bands(ops: ModuleType, images: Tensor) -> Tensor:
    """Convert channels-last images to bands.

    Args:
        ops: Module. `tensorflow` or `keras.ops`.
        images: `(batch, height, width, 3)`, any dtype. Images in [0, 255].

    Returns:
        `(batch, height, 3, width)` float32.

    Example:
        >>> tuple(bands(keras.ops, np.zeros((2, 8, 16, 3), "uint8")).shape)
        (2, 8, 3, 16)
    """
    return ops.transpose(ops.cast(images, "float32"), (0, 1, 3, 2))


def normalize(ops: ModuleType, image: Tensor) -> Tensor:
    """Convert bands to channels-last images, normalized by ImageNet's mean and standard deviation.

    Args:
        ops: Module. `tensorflow` or `keras.ops`.
        image: `(batch, height, 3, width)` float32 in [0, 255]. Bands.

    Returns:
        `(batch, height, width, 3)` float32.

    Example:
        >>> tuple(normalize(keras.ops, np.zeros((2, 8, 3, 16), "float32")).shape)
        (2, 8, 16, 3)
    """
    mean, scale = (ops.cast(values, "float32") for values in (MEAN, 1 / STD))
    return (ops.transpose(image, (0, 1, 3, 2)) - mean) * scale


def denormalize(images: ArrayLike) -> np.ndarray:
    """Invert `normalize` for display.

    Args:
        images: `(..., 3)` floats. Normalized images.

    Returns:
        `(..., 3)` uint8.

    Example:
        >>> denormalize(np.zeros((1, 3))).tolist()
        [[124, 116, 104]]
    """
    return np.clip(np.rint(np.asarray(images) * STD + MEAN), 0, 255).astype("uint8")


def _per_image(values):
    return values[:, None, None, None]


def _clip(ops, image):
    return ops.minimum(ops.maximum(image, 0.0), 255.0)


def gray(image: Tensor) -> Tensor:
    """Return the luma of bands (ITU-R 601, PIL's mode L).

    Args:
        image: `(batch, height, 3, width)` float32. Bands.

    Returns:
        `(batch, height, 1, width)` float32.

    Example:
        >>> gray(np.ones((2, 8, 3, 16), "float32")).shape
        (2, 8, 1, 16)
    """
    return sum(weight * image[:, :, k : k + 1] for k, weight in enumerate(GRAY_WEIGHTS))


def mean_gray(ops: ModuleType, luma: Tensor) -> Tensor:
    """Return the mean luma of every image, rounded to a whole gray level as PIL's contrast does.

    Args:
        ops: Module. `tensorflow` or `keras.ops`.
        luma: `(batch, height, 1, width)` float32. Result of `gray`.

    Returns:
        `(batch, 1, 1, 1)` float32.

    Example:
        >>> float(mean_gray(keras.ops, np.full((1, 2, 1, 2), 99.7, "float32"))[0, 0, 0, 0])
        100.0
    """
    pixels = luma.shape[1] * luma.shape[3]
    return ops.floor(_per_image(ops.einsum("bhcw->b", luma)) / pixels + 0.5)


def blend(ops: ModuleType, image: Tensor, reference: Tensor, factor: Tensor) -> Tensor:
    """Extrapolate away from a reference (factor above 1) or interpolate towards it (factor below 1).

    Args:
        ops: Module. `tensorflow` or `keras.ops`.
        image: `(batch, height, 3, width)` float32. Bands.
        reference: Broadcastable to bands. Result at factor 0: black for brightness, `mean_gray` for contrast, `gray`
            for saturation.
        factor: `(batch,)` float32, at least 0. Strength per image; 1 leaves the image unchanged.

    Returns:
        `(batch, height, 3, width)` float32, clipped to [0, 255].

    Example:
        >>> pixel = np.full((1, 1, 3, 1), 100, "float32")
        >>> float(blend(keras.ops, pixel, 0.0, np.array([1.5], "float32"))[0, 0, 0, 0])
        150.0
    """
    return _clip(ops, reference + _per_image(factor) * (image - reference))


def adjust_hue(ops: ModuleType, image: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue; value and chroma stay the same.

    Args:
        ops: Module. `tensorflow` or `keras.ops`.
        image: `(batch, height, 3, width)` float32. Bands.
        shift: `(batch,)` float32 in [-0.5, 0.5]. Rotation per image, in turns of the color circle.

    Returns:
        `(batch, height, 3, width)` float32.

    Example:
        >>> red = np.array([255, 0, 0], "float32").reshape(1, 1, 3, 1)
        >>> np.rint(adjust_hue(keras.ops, red, np.array([1 / 3], "float32"))).ravel().tolist()
        [0.0, 255.0, 0.0]
    """
    # The hue is `sector + difference / chroma` sixths of a turn. Everything is computed times the chroma: a division
    # costs as much as all the rest, and gray pixels need no special case.
    red, green, blue = (image[:, :, k : k + 1] for k in range(3))
    value = ops.maximum(ops.maximum(red, green), blue)
    chroma = value - ops.minimum(ops.minimum(red, green), blue)
    # Comparing with the maximum for equality is unsafe: a compiler may compute it twice with different rounding.
    reddest, greenest = (red >= green) & (red >= blue), green >= blue
    difference = ops.where(reddest, green - blue, ops.where(greenest, blue - red, red - green))
    sector = ops.where(reddest, 0.0, ops.where(greenest, 2.0, 4.0))
    # Rotated hues at which red, green and blue begin to fade, in [0, 6).
    start = 6.0 * shift[:, None] + ops.cast(np.array([5.0, 3.0, 1.0]), "float32")
    start = (start - 6.0 * ops.floor(start / 6.0))[:, None, :, None]
    position = difference + chroma * (sector + start)
    position = ops.where(position >= 6.0 * chroma, position - 6.0 * chroma, position)
    fading = ops.minimum(ops.minimum(position, 4.0 * chroma - position), chroma)
    return value - ops.maximum(fading, 0.0)


def jitter(ops: ModuleType, image: Tensor, order: Tensor, factors: Tensor) -> Tensor:
    """Apply brightness, contrast, saturation and hue to every image in its own order.

    Args:
        ops: Module. `tensorflow` or `keras.ops`.
        image: `(batch, height, 3, width)` float32. Bands.
        order: `(batch, 4)` int32. Permutation of `BRIGHTNESS`, `CONTRAST`, `SATURATION`, `HUE`: the first, second,
            third and fourth operation.
        factors: `(batch, 4)` float32. Strengths indexed by `BRIGHTNESS`, `CONTRAST`, `SATURATION`, `HUE`: three
            factors (1 for no change) and the hue shift in turns (0 for no change).

    Returns:
        `(batch, height, 3, width)` float32.

    Example:
        >>> pixel = np.full((1, 1, 3, 1), 100, "float32")
        >>> order, factors = np.array([[0, 1, 2, 3]]), np.array([[1.5, 1, 1, 0]], "float32")
        >>> round(float(jitter(keras.ops, pixel, order, factors)[0, 0, 0, 0]))
        150
    """
    # Every step computes one blend, whose reference depends on the operation, and one hue rotation. XLA fuses such
    # selections into few passes; branches it does not.
    for step in range(4):
        operation = order[:, step]
        factor = sum(ops.where(operation == k, factors[:, k], ops.zeros_like(factors[:, k])) for k in range(4))
        luma = gray(image)
        black = ops.zeros_like(luma)
        reference = ops.where(_per_image(operation == CONTRAST), black + mean_gray(ops, luma), black)
        reference = ops.where(_per_image(operation == SATURATION), luma, reference)
        image = ops.where(
            _per_image(operation == HUE), adjust_hue(ops, image, factor), blend(ops, image, reference, factor)
        )
    return image


def apply_along_axis(ops: ModuleType, image: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Multiply every image by its own matrix along one axis.

    Args:
        ops: Module. `tensorflow` or `keras.ops`.
        image: `(batch, height, 3, width)` float32. Bands.
        matrix: `(batch, size_out, size)` float32. One matrix per image; `size` is the image's size along the axis.
        axis: int. `HEIGHT` or `WIDTH`.

    Returns:
        Bands with `size_out` along the axis.

    Example:
        >>> image, matrix = np.ones((2, 8, 3, 16), "float32"), np.ones((2, 5, 16), "float32")
        >>> tuple(apply_along_axis(keras.ops, image, matrix, WIDTH).shape)
        (2, 8, 3, 5)
    """
    _, height, _, width = image.shape
    if axis == HEIGHT:
        lines = ops.reshape(image, (-1, height, 3 * width))
        return ops.reshape(ops.einsum("bij,bjk->bik", matrix, lines), (-1, matrix.shape[1], 3, width))
    lines = ops.reshape(image, (-1, 3 * height, width))
    return ops.reshape(ops.einsum("bik,bjk->bij", lines, matrix), (-1, height, 3, matrix.shape[1]))


def gaussian_blur(ops: ModuleType, image: Tensor, sigma: Tensor, max_sigma: float | None = None) -> Tensor:
    """Convolve every image with a Gaussian; weights are renormalized at the border.

    Args:
        ops: Module. `tensorflow` or `keras.ops`.
        image: `(batch, height, 3, width)` float32. Bands.
        sigma: `(batch,)` float32. Standard deviation per image in pixels; 0 leaves the image unchanged.
        max_sigma: float or None. Upper bound of `sigma`. With a bound, large images are blurred faster: pixels farther
            than `4 * max_sigma` are left out, whose total weight is below 1/10,000. Defaults to None.

    Returns:
        `(batch, height, 3, width)` float32.

    Example:
        >>> flat = np.full((1, 8, 3, 8), 100, "float32")
        >>> round(float(gaussian_blur(keras.ops, flat, np.array([2], "float32"))[0, 0, 0, 0]))
        100
    """
    reach = None if max_sigma is None else math.ceil(4 * max_sigma)
    for axis in (WIDTH, HEIGHT):
        # A long axis is cheaper as a sum of a few shifted images than as a product with a square matrix: all color
        # operations of a view of 224 pixels take 0.7 ms with the sum and 1.9 ms with the matrix.
        if reach is None or image.shape[axis] < 12 * reach:
            image = apply_along_axis(ops, image, _gaussian_matrix(ops, image.shape[axis], sigma), axis)
        else:
            image = _sum_of_shifted(ops, image, sigma, reach, axis)
    return image


def _sum_of_shifted(ops, image, sigma, reach, axis):
    size = image.shape[axis]
    sigma = ops.maximum(sigma, 0.01)
    weights = [ops.exp((-0.5 * distance**2) / (sigma * sigma)) for distance in range(reach + 1)]
    padded = ops.pad(image, [[0, 0]] * axis + [[reach, reach]] + [[0, 0]] * (3 - axis))

    def shifted(by):
        first = reach + by
        return padded[:, first : first + size] if axis == HEIGHT else padded[..., first : first + size]

    total = image
    position = np.arange(size)
    norm = ops.ones_like(weights[0])[:, None]
    for distance in range(1, reach + 1):
        total = total + _per_image(weights[distance]) * (shifted(-distance) + shifted(distance))
        inside = (position >= distance).astype("float32") + (position < size - distance).astype("float32")
        norm = norm + weights[distance][:, None] * ops.cast(inside, "float32")
    return total / (norm[:, :, None, None] if axis == HEIGHT else norm[:, None, None, :])


def _gaussian_matrix(ops, size, sigma):
    # Below 0.01 pixels the weights are exactly those of the identity.
    sigma = ops.maximum(sigma, 0.01)[:, None, None]
    distance = np.arange(size, dtype="float32")[:, None] - np.arange(size, dtype="float32")
    weights = ops.exp(ops.cast(-0.5 * distance**2, "float32") * (1.0 / (sigma * sigma)))
    return weights * (1.0 / ops.einsum("bij->bi", weights)[:, :, None])


def solarize(ops: ModuleType, image: Tensor, chosen: Tensor) -> Tensor:
    """Invert the values of at least 128 in the chosen images.

    Args:
        ops: Module. `tensorflow` or `keras.ops`.
        image: `(batch, height, 3, width)` float32. Bands.
        chosen: `(batch,)` bool. True for the images to solarize.

    Returns:
        `(batch, height, 3, width)` float32.

    Example:
        >>> pixel = np.array([100, 128, 200], "float32").reshape(1, 1, 3, 1)
        >>> np.ravel(solarize(keras.ops, pixel, np.array([True]))).tolist()
        [100.0, 127.0, 55.0]
    """
    return ops.where(_per_image(chosen) & (image >= SOLARIZE_THRESHOLD), 255.0 - image, image)
