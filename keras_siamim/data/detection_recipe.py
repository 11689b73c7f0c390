"""Settings of the training batches of a detector."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from keras_siamim.data.repeat_sampling import repeat_factors

if TYPE_CHECKING:
    from keras_siamim.data.sources import BoxSource


@dataclasses.dataclass(frozen=True)
class DetectionRecipe:
    """Settings of the training batches of a detector. The defaults are those for COCO.

    Attributes:
        image_size: Integer. Side of the square images in pixels. Defaults to 1024.
        scale: Tuple (low, high). Range of large-scale jitter, see `jittered_size`. Defaults to (0.1, 2.0).
        flip_probability: Float in [0, 1]. Probability of a horizontal flip. Defaults to 0.5.
        repeat_threshold: Float in [0, 1]. See `repeat_factors`: 0.001 for LVIS. Defaults to 0.0, no repetition.
        masks: Whether batches have masks. Boxes are then those of the cropped masks. Defaults to `False`.
        max_objects: Integer. Largest number of objects per image; the largest objects are kept. Defaults to `None`, the
            most that an image of the source has. Masks take `image_size ** 2` bytes per object.

    Raises:
        ValueError: If a value is out of its range.
    """

    image_size: int = 1024
    scale: tuple[float, float] = (0.1, 2.0)
    flip_probability: float = 0.5
    repeat_threshold: float = 0.0
    masks: bool = False
    max_objects: int | None = None

    def __post_init__(self) -> None:
        low, high = self.scale
        for name, valid, rule in (
            ("image_size", self.image_size >= 1, "1 or more"),
            ("scale", 0 < low <= high, "(low, high) with 0 < low <= high"),
            ("flip_probability", 0 <= self.flip_probability <= 1, "in [0, 1]"),
            ("repeat_threshold", 0 <= self.repeat_threshold <= 1, "in [0, 1]"),
            ("max_objects", self.max_objects is None or self.max_objects >= 1, "1 or more, or None"),
        ):
            if not valid:
                raise ValueError(f"`{name}` must be {rule}. Received: {getattr(self, name)}.")

    def repeat_factors(self, source: BoxSource) -> np.ndarray:
        """Return how often each image of a source is used per epoch on average, (images,) float64."""
        found = source.annotations
        return repeat_factors(found.image_index, found.labels, source.size, self.repeat_threshold)


def detection_steps_per_epoch(source: BoxSource, recipe: DetectionRecipe, batch_size: int, workers: int = 1) -> int:
    """Return the number of batches in which each image is used once on average, and rare classes more often.

    Args:
        source: `BoxSource` of `with_objects`.
        recipe: `DetectionRecipe`.
        batch_size: Integer. Images per batch and worker.
        workers: Integer. Number of processes. Defaults to 1.

    Returns:
        Integer, at least 1.
    """
    return max(1, round(recipe.repeat_factors(source).sum() / (batch_size * workers)))
