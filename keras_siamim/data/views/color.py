"""Color and blur as torchvision and PIL define them, for whole batches, on TensorFlow or on any backend's device.

Every function takes `ops`, either the module `tensorflow` or `keras.ops`, and uses only names that both have, so that
the input pipeline and the training device run the same code. Images are *bands*: `(batch, height, 3, width)` float32 of
0...255, every line of pixels as one line of each color (remote sensing's band-interleaved-by-line order). Neighbors
in a band lie side by side in memory, and blurring or resampling either axis is one plain matrix product, all three
colors together. One number an image, `(batch,)`, says how strong an operation is.

Stock keras-cv layers mean other things by the same names: its RandomContrast and RandomBrightness shift instead of
scaling (brightness adds a share of the value range; contrast turns about each channel's own mean, not the mean gray),
RandomHue and RandomSaturation go through HSV with saturation scaled there instead of blended with gray, and
RandomGaussianBlur draws one kernel of a fixed size for a whole call.
"""

import math

import numpy as np

from keras_siamim.batch import IMAGENET_MEAN, IMAGENET_STD

GRAY_WEIGHTS = (0.299, 0.587, 0.114)
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
# Axes of bands.
HEIGHT, WIDTH = 1, 3
SOLARIZE_FROM = 128.0
# ImageNet's statistics of 0...1 images, in gray levels.
MEAN = 255.0 * IMAGENET_MEAN
STD = 255.0 * IMAGENET_STD


def bands(ops, images):
    """Turn `(batch, height, width, 3)` of any dtype into `(batch, height, 3, width)` float32."""
    return ops.transpose(ops.cast(images, "float32"), (0, 1, 3, 2))


def normalize(ops, image):
    """Turn bands of 0...255 into `(batch, height, width, 3)` images of ImageNet's zero mean and unit variance."""
    mean, scale = (ops.cast(values, "float32") for values in (MEAN, 1 / STD))
    return (ops.transpose(image, (0, 1, 3, 2)) - mean) * scale


def denormalize(images):
    """Undo `normalize` for looking: `(..., 3)` float array to uint8."""
    return np.clip(np.rint(np.asarray(images) * STD + MEAN), 0, 255).astype("uint8")


def _per_image(values):
    return values[:, None, None, None]


def _clip(ops, image):
    return ops.minimum(ops.maximum(image, 0.0), 255.0)


def gray(image):
    """Luma of bands (ITU-R 601, PIL's mode L): `(batch, height, 1, width)`."""
    return sum(weight * image[:, :, k : k + 1] for k, weight in enumerate(GRAY_WEIGHTS))


def mean_gray(ops, luma):
    """Mean luma of every image, rounded as PIL's contrast does: `(batch, 1, 1, 1)`."""
    pixels = luma.shape[1] * luma.shape[3]
    return ops.floor(_per_image(ops.einsum("bhcw->b", luma)) / pixels + 0.5)


def blend(ops, image, reference, factor):
    """Move away from a reference (factor above 1) or towards it: brightness from black, contrast from the mean gray.

    Args:
        ops: `tensorflow` or `keras.ops`.
        image: bands.
        reference: what factor 0 gives, broadcastable to bands; black for brightness, `mean_gray` for contrast,
            `gray` for saturation.
        factor: `(batch,)` at least 0.

    Returns:
        Bands.
    """
    return _clip(ops, reference + _per_image(factor) * (image - reference))


def adjust_hue(ops, image, shift):
    """Shift the hue on its circle, value and chroma kept.

    Args:
        ops: `tensorflow` or `keras.ops`.
        image: bands.
        shift: `(batch,)` in turns, -0.5...0.5.

    Returns:
        Bands.
    """
    # The hue is `sector + difference / chroma` sixths of a turn. All of it is kept times the chroma, undivided: a
    # division costs as much as everything else here, and gray pixels need no case of their own.
    red, green, blue = (image[:, :, k : k + 1] for k in range(3))
    value = ops.maximum(ops.maximum(red, green), blue)
    chroma = value - ops.minimum(ops.minimum(red, green), blue)
    # Not by equality with the largest, which a compiler may have computed another time and rounded otherwise.
    reddest, greenest = (red >= green) & (red >= blue), green >= blue
    difference = ops.where(reddest, green - blue, ops.where(greenest, blue - red, red - green))
    sector = ops.where(reddest, 0.0, ops.where(greenest, 2.0, 4.0))
    # Where red, green and blue begin to fade on the circle, turned: 0...6.
    start = 6.0 * shift[:, None] + ops.cast(np.array([5.0, 3.0, 1.0]), "float32")
    start = (start - 6.0 * ops.floor(start / 6.0))[:, None, :, None]
    place = difference + chroma * (sector + start)
    place = ops.where(place >= 6.0 * chroma, place - 6.0 * chroma, place)
    fading = ops.minimum(ops.minimum(place, 4.0 * chroma - place), chroma)
    return value - ops.maximum(fading, 0.0)


def jitter(ops, image, order, factors):
    """Brightness, contrast, saturation and hue, in an order of each image's own.

    Each of the four places computes one blend, whose reference the image's operation picks, and one hue: a selection
    instead of a branch, which XLA fuses into few passes.

    Args:
        ops: `tensorflow` or `keras.ops`.
        image: bands.
        order: `(batch, 4)` int32, which of `BRIGHTNESS`, `CONTRAST`, `SATURATION`, `HUE` comes first, second, ...
        factors: `(batch, 4)` float32, the strength of each in that numbering: factors (1 = nothing), hue in turns.

    Returns:
        Bands.
    """
    for place in range(4):
        operation = order[:, place]
        factor = sum(ops.where(operation == k, factors[:, k], ops.zeros_like(factors[:, k])) for k in range(4))
        luma = gray(image)
        nothing = ops.zeros_like(luma)
        reference = ops.where(_per_image(operation == CONTRAST), nothing + mean_gray(ops, luma), nothing)
        reference = ops.where(_per_image(operation == SATURATION), luma, reference)
        image = ops.where(
            _per_image(operation == HUE), adjust_hue(ops, image, factor), blend(ops, image, reference, factor)
        )
    return image


def apply_along_axis(ops, image, matrix, axis):
    """Multiply every image by a matrix of its own along one axis.

    Args:
        ops: `tensorflow` or `keras.ops`.
        image: bands, `(batch, height, 3, width)`.
        matrix: `(batch, size_out, size)`.
        axis: `HEIGHT` or `WIDTH`.

    Returns:
        Bands with `size_out` along the axis.
    """
    _, height, _, width = image.shape
    if axis == HEIGHT:
        lines = ops.reshape(image, (-1, height, 3 * width))
        return ops.reshape(ops.einsum("bij,bjk->bik", matrix, lines), (-1, matrix.shape[1], 3, width))
    lines = ops.reshape(image, (-1, 3 * height, width))
    return ops.reshape(ops.einsum("bik,bjk->bij", lines, matrix), (-1, height, 3, matrix.shape[1]))


def gaussian_blur(ops, image, sigma, widest=None):
    """Convolve with a true Gaussian, renormalized where it reaches beyond the border, one axis after the other.

    Args:
        ops: `tensorflow` or `keras.ops`.
        image: bands.
        sigma: `(batch,)` standard deviation in pixels; 0 leaves the image as it is.
        widest: no sigma is larger than this number, or None. Pixels at more than four of it, which weigh less than
            1/10,000 together, are left out then: a large image is a sum of few shifted ones, and not a product with a
            matrix for each axis.

    Returns:
        Bands.
    """
    reach = None if widest is None else math.ceil(4 * widest)
    for axis in (WIDTH, HEIGHT):
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
    place = np.arange(size)
    norm = ops.ones_like(weights[0])[:, None]
    for distance in range(1, reach + 1):
        total = total + _per_image(weights[distance]) * (shifted(-distance) + shifted(distance))
        inside = (place >= distance).astype("float32") + (place < size - distance).astype("float32")
        norm = norm + weights[distance][:, None] * ops.cast(inside, "float32")
    return total / (norm[:, :, None, None] if axis == HEIGHT else norm[:, None, None, :])


def _gaussian_matrix(ops, size, sigma):
    # Below a hundredth of a pixel the weights are exactly those of the identity.
    sigma = ops.maximum(sigma, 0.01)[:, None, None]
    distance = np.arange(size, dtype="float32")[:, None] - np.arange(size, dtype="float32")
    weights = ops.exp(ops.cast(-0.5 * distance**2, "float32") * (1.0 / (sigma * sigma)))
    return weights * (1.0 / ops.einsum("bij->bi", weights)[:, :, None])


def solarize(ops, image, chosen):
    """Invert values of at least 128 in the chosen images, `(batch,)` bool."""
    return ops.where(_per_image(chosen) & (image >= SOLARIZE_FROM), 255.0 - image, image)
