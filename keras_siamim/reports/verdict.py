"""Verdict on a run: its features beside those before training, of a random encoder, and the raw pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping

# Representations that are compared: the name in a description, and the name for readers.
REPRESENTATIONS = {
    "trained": "trained encoder",
    "initial": "before training",
    "random": "random encoder",
    "raw_pixels": "raw pixels",
}
HEADER = ("", "k-NN accuracy", "effective rank")
# Rank of trained features, as a share of that before training, below which they may have collapsed.
LOW_RANK = 0.25

Measured = Mapping[str, Mapping[str, float]]


def percent(fraction: float | None) -> str:
    """Return a fraction in percent, or a dash for None.

    Example:
        >>> percent(0.8391), percent(None)
        ('83.9 %', '–')
    """
    return "–" if fraction is None else f"{100 * fraction:.1f} %"


def verdict_rows(measured: Measured) -> list[tuple[str, str, str]]:
    """Return the rows of the table with `HEADER`.

    Args:
        measured: Dictionary from keys of `REPRESENTATIONS` to dictionaries with `knn` and `rank`, which may be missing.

    Example:
        >>> verdict_rows({"trained": {"knn": 0.8, "rank": 31.04}, "raw_pixels": {"rank": 9}})
        [('trained encoder', '80.0 %', '31.0'), ('raw pixels', '–', '9.0')]
    """
    return [
        (
            title,
            percent(measured[name].get("knn")),
            f"{measured[name]['rank']:.1f}" if "rank" in measured[name] else "–",
        )
        for name, title in REPRESENTATIONS.items()
        if name in measured
    ]


def verdict(measured: Measured, test_images: int) -> str:
    """Return a sentence or two that tell whether training was worth it.

    Two accuracies count as different if they are more than two standard errors of their difference apart.

    Args:
        measured: As for `verdict_rows`.
        test_images: Integer. Number of held-out images; 0 if accuracies were not measured.

    Example:
        >>> verdict({"trained": {"knn": 0.8}, "initial": {"knn": 0.5}, "raw_pixels": {"knn": 0.6}}, test_images=1000)
        'Training was worth it: k-NN accuracy is 80.0 %, above 50.0 % without training and 60.0 % of raw pixels.'
    """
    knn = {name: values["knn"] for name, values in measured.items() if "knn" in values}
    untrained = max((knn[name] for name in ("initial", "random") if name in knn), default=None)
    if "trained" not in knn or untrained is None:
        return _by_rank({name: values["rank"] for name, values in measured.items() if "rank" in values})
    trained, raw = knn["trained"], knn.get("raw_pixels", 0.0)
    found = f"k-NN accuracy is {percent(trained)}"
    if not _above(trained, untrained, test_images):
        return (
            f"Training did not improve the features: {found}, and {percent(untrained)} without training. Look at the "
            "curves and the view pairs, and train for more epochs."
        )
    if _above(trained, raw, test_images):
        pixels = f" and {percent(raw)} of raw pixels" if raw else ""
        return f"Training was worth it: {found}, above {percent(untrained)} without training{pixels}."
    than = "raw pixels do better with" if _above(raw, trained, test_images) else "raw pixels do as well with"
    return (
        f"Training improved the features, but {than} {percent(raw)}: {found}, and {percent(untrained)} without "
        "training. Train for more epochs or on more images, or use smaller patches."
    )


def _above(first, second, images):
    variance = (first * (1 - first) + second * (1 - second)) / max(images, 1)
    return first - second > 2 * math.sqrt(variance)


def _by_rank(ranks):
    if "trained" not in ranks or "initial" not in ranks:
        return "Too little was measured for a verdict."
    course = f"The effective rank of the features went from {ranks['initial']:.1f} to {ranks['trained']:.1f}"
    if ranks["trained"] < LOW_RANK * ranks["initial"]:
        return f"{course}: they may have collapsed. Without labels, their accuracy is unknown."
    return f"{course}. Without labels, their accuracy is unknown: look at the pictures, or evaluate on labeled images."
