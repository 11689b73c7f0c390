"""Augmentation recipe of one view as data: random parameters and the operations they control."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from types import ModuleType
from typing import Any

from keras_siamim.data.views import color, crops
from keras_siamim.types import Tensor

# Uniform samples per view, after those of its box: jitter or not; four strengths; four ranks of the operations; gray or
# not; blur or not, and its sigma; solarize or not.
NUM_COLOR_SAMPLES = 1 + 4 + 4 + 1 + 2 + 1
NUM_SAMPLES = crops.NUM_SAMPLES + NUM_COLOR_SAMPLES


@dataclass(frozen=True)
class ViewRecipe:
    """Ranges and probabilities of one view's augmentation; the defaults are the paper's online view.

    Operations are applied in the order of the arguments and chosen per image: flip, crop, jitter (its four operations
    in random order), grayscale, blur, solarize. They are torchvision's, see `keras_siamim.data.views.color`.

    Args:
        flip_probability: float in [0, 1]. Probability of a horizontal flip. Defaults to 0.5.
        area: `(low, high)` floats in (0, 1]. Share of the image that the crop covers. Defaults to (0.08, 1.0).
        aspect: `(low, high)` floats above 0. Width / height of the crop, log-uniform. Defaults to (3/4, 4/3).
        jitter_probability: float in [0, 1]. Probability of color jitter. Defaults to 0.8.
        brightness: float x, at least 0. Brightness factor in [1 - x, 1 + x]. Defaults to 0.4.
        contrast: float x, at least 0. Contrast factor in [1 - x, 1 + x], about the image's mean gray. Defaults to 0.4.
        saturation: float x, at least 0. Saturation factor in [1 - x, 1 + x], about each pixel's gray. Defaults to 0.2.
        hue: float x in [0, 0.5]. Hue shift in [-x, x], in turns of the color circle. Defaults to 0.1.
        gray_probability: float in [0, 1]. Probability of grayscale. Defaults to 0.2.
        blur_probability: float in [0, 1]. Probability of Gaussian blur. Defaults to 1.0.
        blur_sigma: `(low, high)` floats above 0. Standard deviation of the blur in pixels. Defaults to (0.1, 2.0).
        solarize_probability: float in [0, 1]. Probability of inverting the values of at least 128 of 255. Defaults to
            0.0.

    Raises:
        ValueError: If a probability is outside [0, 1], or a range is empty or out of bounds.

    Reference: arXiv 2206.01204, appendix.

    Example:
        >>> ViewRecipe(blur_probability=0.1, solarize_probability=0.2) == TARGET
        True
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

    def __post_init__(self) -> None:
        for field in fields(self):
            if isinstance(field.default, tuple):
                object.__setattr__(self, field.name, _validated_range(field.name, getattr(self, field.name)))
            elif field.name.endswith("_probability"):
                _check_within(field.name, getattr(self, field.name), 1.0)
            else:
                _check_within(field.name, getattr(self, field.name), 0.5 if field.name == "hue" else math.inf)
        if self.area[1] > 1:
            raise ValueError(f"`area` must lie within [0, 1], as shares of the image. Received: {self.area}.")

    @classmethod
    def of(cls, recipe: ViewRecipe | Mapping[str, Any]) -> ViewRecipe:
        """Return a recipe unchanged, or build one from a mapping of its arguments."""
        return recipe if isinstance(recipe, ViewRecipe) else cls(**recipe)

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments as a dict, which `ViewRecipe.of` accepts."""
        return asdict(self)

    @classmethod
    def crop_and_flip(cls, area: tuple[float, float] = (0.2, 1.0), flip_probability: float = 0.5) -> ViewRecipe:
        """Return a recipe without color operations and blur, as in MAE (area from 0.2) and linear probes (from 0.08).

        Args:
            area: `(low, high)` floats in (0, 1]. Share of the image that the crop covers. Defaults to (0.2, 1.0).
            flip_probability: float in [0, 1]. Probability of a horizontal flip. Defaults to 0.5.
        """
        return cls(
            flip_probability=flip_probability,
            area=area,
            jitter_probability=0.0,
            gray_probability=0.0,
            blur_probability=0.0,
        )

    def augment(
        self,
        ops: ModuleType,
        image: Tensor,
        samples: Tensor,
        jitter: Callable[..., Tensor] = color.jitter,
        blur: Callable[..., Tensor] = color.gaussian_blur,
    ) -> Tensor:
        """Apply the operations that follow the crop: jitter, grayscale, blur and solarize.

        Args:
            ops: Module. `tensorflow` or `keras.ops`.
            image: `(batch, height, 3, width)` float32 in [0, 255]. Bands, see `keras_siamim.data.views.color`.
            samples: `(batch, NUM_COLOR_SAMPLES)` float32 in [0, 1). Uniform random samples.
            jitter: Function `(ops, bands, order, factors)`. Defaults to `color.jitter`.
            blur: Function `(ops, bands, sigma, max_sigma)`; sigma is 0 for images that stay sharp. Defaults to
                `color.gaussian_blur`.

        Returns:
            `(batch, height, 3, width)` float32. Bands.
        """
        if self.jitter_probability:
            image = jitter(ops, image, *self._jitter_parameters(ops, samples[:, 0:9]))
        if self.gray_probability:
            chosen = samples[:, 9] < self.gray_probability
            image = ops.where(chosen[:, None, None, None], color.gray(image), image)
        if self.blur_probability:
            low, high = self.blur_sigma
            sigma = low + samples[:, 11] * (high - low)
            sigma = ops.where(samples[:, 10] < self.blur_probability, sigma, ops.zeros_like(sigma))
            image = blur(ops, image, sigma, high)
        if self.solarize_probability:
            image = color.solarize(ops, image, samples[:, 12] < self.solarize_probability)
        return image

    def _jitter_parameters(self, ops, samples):
        # Returns order and factors, (batch, 4) each. Images without jitter get the factors of no change.
        chosen = samples[:, 0] < self.jitter_probability
        spans = [(1.0, self.brightness), (1.0, self.contrast), (1.0, self.saturation), (0.0, self.hue)]
        factors = []
        for k, (middle, span) in enumerate(spans):
            factor = ops.maximum(middle - span + 2.0 * span * samples[:, 1 + k], 0.0 if middle else -span)
            factors.append(ops.where(chosen, factor, ops.zeros_like(factor) + middle))
        return ops.cast(ops.argsort(samples[:, 5:9], axis=-1), "int32"), ops.stack(factors, axis=-1)


def _check_within(name, value, high):
    if not 0 <= value <= high:
        limits = f"within [0, {high:g}]" if math.isfinite(high) else "at least 0"
        raise ValueError(f"`{name}` must be {limits}. Received: {value!r}.")


def _validated_range(name, values):
    values = tuple(float(value) for value in values)
    if len(values) != 2 or not 0 < values[0] <= values[1]:
        raise ValueError(f"`{name}` must be two numbers with 0 < low <= high. Received: {values}.")
    return values


ONLINE = ViewRecipe()
TARGET = ViewRecipe(blur_probability=0.1, solarize_probability=0.2)
