"""What is drawn for one view, and what it does to the image: the augmentation recipe as data."""

import math
from dataclasses import asdict, dataclass, fields

from keras_siamim.data.views import color, crops

# Uniform numbers of a view after those of its box: jitter or not, four strengths, four ranks, gray or not, blur or
# not, sigma, solarize or not.
COLOR_NUMBERS = 1 + 4 + 4 + 1 + 2 + 1
NUMBERS = crops.NUMBERS + COLOR_NUMBERS


@dataclass(frozen=True)
class ViewRecipe:
    """Ranges and probabilities of one view, the paper's online view unless told otherwise.

    Operations happen in the order of the arguments, each decided per image: flip, crop, jitter (its four parts in
    random order), grayscale, blur, solarize.

    Args:
        flip_probability: of a horizontal flip.
        area: `(low, high)` share of the image that the crop covers.
        aspect: `(low, high)` width / height of the crop, log-uniform.
        jitter_probability: of the color jitter.
        brightness: factor within 1 - x ... 1 + x, as are the next two.
        contrast: about the image's mean gray.
        saturation: about each pixel's gray.
        hue: shift within -x ... x turns of the circle, at most 0.5.
        gray_probability: of dropping the colors.
        blur_probability: of a Gaussian blur.
        blur_sigma: `(low, high)` of its standard deviation in pixels.
        solarize_probability: of inverting values of at least 128 of 255.

    Raises:
        ValueError: a probability outside 0...1, or a range that is empty or out of bounds.

    Reference: arXiv 2206.01204, appendix; the operations are torchvision's, see `keras_siamim.data.views.color`.
    """

    flip_probability: float = 0.5
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    jitter_probability: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    gray_probability: float = 0.2
    blur_probability: float = 1.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_probability: float = 0.0

    def __post_init__(self):
        for field in fields(self):
            if isinstance(field.default, tuple):
                object.__setattr__(self, field.name, _checked_range(field.name, getattr(self, field.name)))
            elif field.name.endswith("_probability"):
                _check_within(field.name, getattr(self, field.name), 1.0)
            else:
                _check_within(field.name, getattr(self, field.name), 0.5 if field.name == "hue" else math.inf)
        if self.area[1] > 1:
            raise ValueError(f"area must lie within 0...1, shares of the image; received {self.area}.")

    @classmethod
    def of(cls, recipe):
        """Take a recipe as it is, or build it from the dict of its arguments."""
        return recipe if isinstance(recipe, cls) else cls(**recipe)

    def to_dict(self):
        """Return the constructor's arguments."""
        return asdict(self)

    @classmethod
    def crop_and_flip(cls, area=(0.2, 1.0), flip_probability=0.5):
        """Geometry only, as MAE (area from 0.2) and the linear probe (area from 0.08) use it."""
        return cls(
            flip_probability=flip_probability,
            area=area,
            jitter_probability=0.0,
            gray_probability=0.0,
            blur_probability=0.0,
        )

    def distort(self, ops, image, numbers, jitter=color.jitter, blur=color.gaussian_blur):
        """Apply everything after the crop.

        Args:
            ops: `tensorflow` or `keras.ops`.
            image: bands, `(batch, height, 3, width)` float32 of 0...255.
            numbers: `(batch, COLOR_NUMBERS)` float32 in [0, 1).
            jitter: function `(ops, bands, order, factors)`, see `color.jitter`.
            blur: function `(ops, bands, sigma, widest)`, see `color.gaussian_blur`; sigma is 0 for images that stay
                sharp.

        Returns:
            Bands.
        """
        if self.jitter_probability:
            image = jitter(ops, image, *self._jitter(ops, numbers[:, 0:9]))
        if self.gray_probability:
            chosen = numbers[:, 9] < self.gray_probability
            image = ops.where(chosen[:, None, None, None], color.gray(image), image)
        if self.blur_probability:
            low, high = self.blur_sigma
            sigma = low + numbers[:, 11] * (high - low)
            sigma = ops.where(numbers[:, 10] < self.blur_probability, sigma, ops.zeros_like(sigma))
            image = blur(ops, image, sigma, high)
        if self.solarize_probability:
            image = color.solarize(ops, image, numbers[:, 12] < self.solarize_probability)
        return image

    def _jitter(self, ops, numbers):
        # (batch, 4) order and strengths; images without jitter get strengths that change nothing.
        chosen = numbers[:, 0] < self.jitter_probability
        spans = [(1.0, self.brightness), (1.0, self.contrast), (1.0, self.saturation), (0.0, self.hue)]
        factors = []
        for k, (middle, span) in enumerate(spans):
            drawn = ops.maximum(middle - span + 2.0 * span * numbers[:, 1 + k], 0.0 if middle else -span)
            factors.append(ops.where(chosen, drawn, ops.zeros_like(drawn) + middle))
        return ops.cast(ops.argsort(numbers[:, 5:9], axis=-1), "int32"), ops.stack(factors, axis=-1)


def _check_within(name, value, high):
    if not 0 <= value <= high:
        limits = f"within 0...{high:g}" if math.isfinite(high) else "at least 0"
        raise ValueError(f"{name} must be {limits}; received {value!r}.")


def _checked_range(name, values):
    values = tuple(float(value) for value in values)
    if len(values) != 2 or not 0 < values[0] <= values[1]:
        raise ValueError(f"{name} must be two numbers with 0 < low <= high; received {values}.")
    return values


ONLINE = ViewRecipe()
TARGET = ViewRecipe(blur_probability=0.1, solarize_probability=0.2)
