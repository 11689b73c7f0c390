"""The 15 corruptions of ImageNet-C at five severities, computed on the fly for images of any size.

Definitions and strengths are those of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations" (ICLR 2019, arXiv 1903.12261, section 3). Lengths in pixels are given for images of 224
pixels and scale with the shorter side. Frost is a fractal instead of photographs of ice.

Error rates are therefore close to those on the published ImageNet-C, but not equal. Never normalize them by AlexNet's
error rates, which were measured on the published images.
"""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from keras_siamim.types import ArrayLike

# Written for NumPy and SciPy because the packages with the same corruptions do not fit: one fails on NumPy 2, the other
# uses a global random generator and depends on two image libraries.
_REFERENCE_SIDE = 224
SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(image: ArrayLike, corruption: str, severity: int, seed: int | Sequence[int] = 0) -> np.ndarray:
    """Apply one corruption to one image.

    Args:
        image: `(height, width, 3)` uint8. The image.
        corruption: str. Name of the corruption, a key of `CORRUPTIONS`.
        severity: int in [1, 5]. Severity from slight to strong.
        seed: int or sequence of ints. Random seed; equal seeds give equal results. Defaults to 0.

    Returns:
        `(height, width, 3)` uint8.

    Raises:
        ValueError: If `image` has another shape or dtype, or `corruption` or `severity` is unknown.

    Example:
        >>> gray = np.full((8, 8, 3), 100, "uint8")
        >>> int(corrupt(gray, "brightness", 5)[0, 0, 0])
        227
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(f"`image` must be (height, width, 3) uint8. Received: {image.shape} {image.dtype}.")
    if corruption not in CORRUPTIONS:
        raise ValueError(f"`corruption` must be one of {', '.join(CORRUPTIONS)}. Received: {corruption!r}.")
    if severity not in SEVERITIES:
        raise ValueError(f"`severity` must be an integer in [1, 5]. Received: {severity!r}.")
    function, strengths = CORRUPTIONS[corruption]
    result = function(image / 255.0, strengths[severity - 1], np.random.default_rng(seed))
    return np.rint(np.clip(result, 0, 1) * 255).astype(np.uint8)


def _scale(x):
    return min(x.shape[:2]) / _REFERENCE_SIDE


def _gaussian_noise(x, deviation, random):
    return x + random.normal(0, deviation, x.shape)


def _shot_noise(x, photons, random):
    return random.poisson(x * photons) / photons


def _impulse_noise(x, share, random):
    samples = random.uniform(size=x.shape)
    return np.where(samples < share / 2, 0.0, np.where(samples < share, 1.0, x))


def _blur(x, sigma):
    return ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="reflect")


def _convolve(x, kernel):
    return np.stack([ndimage.convolve(x[..., c], kernel, mode="reflect") for c in range(x.shape[-1])], axis=-1)


def _defocus_blur(x, strength, random):
    radius, soften = strength[0] * _scale(x), strength[1]
    reach = int(np.ceil(radius)) + 1
    grid = np.arange(-reach, reach + 1)
    disk = np.clip(radius + 0.5 - np.hypot(grid[:, None], grid[None]), 0, 1)
    disk = ndimage.gaussian_filter(disk, soften)
    return _convolve(x, disk / disk.sum())


def _glass_blur(x, strength, random):
    sigma, reach, rounds = strength[0] * _scale(x), max(1, round(strength[1] * _scale(x))), strength[2]
    x = _blur(x, sigma)
    height, width = x.shape[:2]
    for _ in range(rounds):  # every pixel takes the value of a random neighbor, all at once
        rows = np.clip(np.arange(height)[:, None] + random.integers(-reach, reach + 1, (height, width)), 0, height - 1)
        columns = np.clip(np.arange(width)[None] + random.integers(-reach, reach + 1, (height, width)), 0, width - 1)
        x = x[rows, columns]
    return _blur(x, sigma)


def _line(length, sigma, degrees):
    """Return the kernel of a Gaussian trail that starts at its center and extends `length` pixels at an angle."""
    reach = max(1, int(np.ceil(length)))
    kernel = np.zeros((2 * reach + 1,) * 2)
    steps = np.linspace(0, length, 8 * reach + 1)
    rows = np.rint(reach + steps * np.sin(np.deg2rad(degrees))).astype(int)
    columns = np.rint(reach + steps * np.cos(np.deg2rad(degrees))).astype(int)
    np.add.at(kernel, (rows, columns), np.exp(-0.5 * (steps / sigma) ** 2))
    return kernel / kernel.sum()


def _motion_blur(x, strength, random):
    length, sigma = (max(value * _scale(x), 1.0) for value in strength)
    return _convolve(x, _line(length, sigma, random.uniform(-45, 45)))


def _zoomed(x, factor):
    """Enlarge about the center, keeping the size."""
    center = (np.array(x.shape[:2]) - 1) / 2
    offset = center - center / factor
    return np.stack(
        [
            ndimage.affine_transform(x[..., c], (1 / factor,) * 2, offset, order=1, mode="nearest")
            for c in range(x.shape[-1])
        ],
        axis=-1,
    )


def _zoom_blur(x, strength, random):
    factors = np.arange(1, *strength)
    return (x + sum(_zoomed(x, factor) for factor in factors)) / (len(factors) + 1)


def _gray(x):
    return x @ np.array([0.299, 0.587, 0.114])


def _snow(x, strength, random):
    mean, deviation, zoom, threshold, length, sigma, keep = strength
    flakes = _zoomed(random.normal(mean, deviation, (*x.shape[:2], 1)), zoom)
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1)
    length, sigma = max(length * _scale(x), 1.0), max(sigma * _scale(x), 1.0)
    flakes = _convolve(flakes, _line(length, sigma, random.uniform(-135, -45)))
    pale = np.maximum(x, _gray(x)[..., None] * 1.5 + 0.5)
    return keep * x + (1 - keep) * pale + flakes + np.rot90(flakes, 2)


def _fractal(shape, decay, random):
    """Return a plasma fractal, (height, width) in [0, 1], by midpoint displacement; a smaller `decay` is rougher."""
    size = 1 << int(np.ceil(np.log2(max(*shape, 2))))
    plasma, grid, wobble = np.zeros((1, 1)), 1, 1.0
    while grid < size:
        plasma = np.kron(plasma, np.ones((2, 2)))
        plasma = ndimage.uniform_filter(plasma, 3, mode="wrap") + wobble * random.uniform(-1, 1, plasma.shape)
        wobble /= decay
        grid *= 2
    plasma = plasma[: shape[0], : shape[1]] - plasma.min()
    return plasma / max(plasma.max(), 1e-12)


def _frost(x, strength, random):
    crystals = _fractal(x.shape[:2], 1.3, random)
    edges = np.abs(crystals - ndimage.gaussian_filter(crystals, 2))
    ice = np.clip(crystals + 4 * edges, 0, 1)[..., None] * np.array([0.8, 0.9, 1.0])
    return strength[0] * x + strength[1] * ice


def _fog(x, strength, random):
    highest = x.max()
    fogged = x + strength[0] * _fractal(x.shape[:2], strength[1], random)[..., None]
    return fogged * highest / (highest + strength[0])


def _brightness(x, added, random):
    value = x.max(axis=-1, keepdims=True)  # V of HSV; hue and saturation stay the same
    brighter = np.clip(value + added, 0, 1)
    return np.where(value > 0, x * brighter / np.maximum(value, 1e-12), brighter)


def _contrast(x, factor, random):
    mean = x.mean(axis=(0, 1), keepdims=True)
    return (x - mean) * factor + mean


def _elastic_transform(x, strength, random):
    side = min(x.shape[:2])
    push, smooth, affine = (value * side for value in strength)
    height, width = x.shape[:2]
    corners = np.array([[height / 2 + a * side / 3, width / 2 + b * side / 3] for a, b in ((1, 1), (-1, 1), (-1, -1))])
    moved = corners + random.uniform(-affine, affine, corners.shape)
    matrix = np.linalg.lstsq(np.c_[moved, np.ones(3)], corners, rcond=None)[0]
    shifts = [ndimage.gaussian_filter(random.uniform(-1, 1, (height, width)), smooth, truncate=3) for _ in range(2)]
    grid = np.stack([*np.mgrid[:height, :width], np.ones((height, width))], axis=-1) @ matrix
    coordinates = [grid[..., 0] + push * shifts[0], grid[..., 1] + push * shifts[1]]
    return np.stack(
        [ndimage.map_coordinates(x[..., c], coordinates, order=1, mode="reflect") for c in range(3)], axis=-1
    )


def _through_pillow(x, change):
    from PIL import Image

    image = Image.fromarray(np.rint(x * 255).astype(np.uint8))
    return np.asarray(change(Image, image), dtype=float) / 255


def _pixelate(x, factor, random):
    def change(pillow, image):
        small = (max(1, int(image.width * factor)), max(1, int(image.height * factor)))
        return image.resize(small, pillow.Resampling.BOX).resize(image.size, pillow.Resampling.NEAREST)

    return _through_pillow(x, change)


def _jpeg_compression(x, quality, random):
    def change(pillow, image):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return pillow.open(buffer).convert("RGB")

    return _through_pillow(x, change)


# Name: function and its five strengths.
CORRUPTIONS: dict[str, tuple[Callable[..., np.ndarray], Sequence[Any]]] = {
    "gaussian_noise": (_gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": (_shot_noise, (60, 25, 12, 5, 3)),
    "impulse_noise": (_impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus_blur": (_defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    "glass_blur": (_glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))),
    "motion_blur": (_motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom_blur": (_zoom_blur, ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))),
    "snow": (
        _snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "frost": (_frost, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))),
    "fog": (_fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    "brightness": (_brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": (_contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic_transform": (
        _elastic_transform,
        ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
    ),
    "pixelate": (_pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": (_jpeg_compression, (25, 18, 15, 10, 7)),
}
