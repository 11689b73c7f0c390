"""Comparison with the recorded sizes, windows and repeat factors of the augmentation of dense tasks."""

import numpy as np

from keras_siamim.data.dense_augmentation import crop_window, jittered_size, shortest_edge_size
from keras_siamim.data.images.photometric import Distortion, distort
from keras_siamim.data.label_map_batches import LONG_BY_SHORT, fitted_size
from keras_siamim.data.repeat_sampling import repeat_factors
from keras_siamim.verification.report import Row, relative_error

# Side of ViTDet's images in pixels, for a recording without sizes of test images, whose longer side tells it.
_SIZE = 1024
# Shorter side of UPerNet's images in pixels at ratio 1.
_SHORT_SIDE = 512


def matches(recording: dict[str, np.ndarray]) -> bool:
    """Return whether a recording holds results of the augmentation of dense tasks.

    Args:
        recording: Dictionary of the recording's arrays.

    Example:
        >>> matches({"jitter/rows": np.ones((1, 5))}), matches({"loss": np.zeros(())})
        (True, False)
    """
    return any(name in recording for name in _COMPARISONS)


def replay(recording: dict[str, np.ndarray]) -> list[Row]:
    """Compare sizes and windows, which must be equal, and repeat factors.

    Args:
        recording: Dictionary of the recording's arrays.

    Returns:
        List of `Row`, one per part of the augmentation.
    """
    return [compare(recording) for name, compare in _COMPARISONS.items() if name in recording]


def _size(recording):
    rows = recording.get("shortest_edge/rows")
    return _SIZE if rows is None else int(rows[:, 2:].max())


def _jitter(recording):
    rows = recording["jitter/rows"]
    return _exact("jitter", jittered_size(*rows[:, :3].T, _size(recording)), rows[:, 3:])


def _crop(recording):
    rows = recording["crop/rows"]
    return _exact("crop", crop_window(*rows[:, :3].T, _size(recording)), rows[:, 3:])


def _shortest_edge(recording):
    rows, size = recording["shortest_edge/rows"], _size(recording)
    return _exact("shortest_edge", shortest_edge_size(*rows[:, :2].T, size, size), rows[:, 2:])


def _repeat(recording):
    counts = int(recording["repeat/images"]), float(recording["repeat/threshold"])
    factors = repeat_factors(recording["repeat/image"], recording["repeat/category"], *counts)
    return Row("repeat factors", relative_error(factors, recording["repeat/factors"]), 1e-6, f"{counts[0]} images")


def _segmentation_resize(recording):
    rows = recording["segmentation_resize/rows"]
    found = [
        fitted_size(int(height), int(width), int(ratio * _SHORT_SIDE), int(ratio * LONG_BY_SHORT * _SHORT_SIDE))
        for height, width, ratio in rows[:, :3]
    ]
    return _exact("segmentation_resize", np.array(found), rows[:, 3:])


def _photometric(recording):
    cases = [key.rpartition("/")[0] for key in recording if key.startswith("photometric/case") and "/draws" in key]
    image = recording["photometric/bgr"][..., ::-1]
    errors = [0.0]
    for case in cases:
        found = distort(image, _distortion_of(recording[f"{case}/draws"])).numpy()[..., ::-1]
        errors.append(abs(found.astype("float64") - recording[f"{case}/bgr"]).max())
    return Row("photometric", float(max(errors)), 0.0, f"gray values, {len(cases)} images")


def _distortion_of(draws):
    """Return the distortion of recorded draws, in their order: a coin per part, followed by the value if it is 1."""
    numbers = iter(draws)

    def part(neutral):
        return (True, next(numbers)) if next(numbers) else (False, neutral)

    brightness, first = part(0.0), bool(next(numbers))
    contrast = part(1.0) if first else None
    saturation, hue = part(1.0), part(0)
    contrast = contrast or part(1.0)
    flags, values = zip(brightness, contrast, saturation, hue, strict=True)
    return Distortion(*values[:3], int(values[3]), np.array(flags), first)


def _exact(name, found, recorded):
    return Row(name, float(abs(found - recorded).max(initial=0)), 0.0, f"pixels, {len(recorded)} rows")


# One entry per part of the augmentation, by a key of the recording.
_COMPARISONS = {
    "jitter/rows": _jitter,
    "crop/rows": _crop,
    "shortest_edge/rows": _shortest_edge,
    "repeat/factors": _repeat,
    "segmentation_resize/rows": _segmentation_resize,
    "photometric/bgr": _photometric,
}
