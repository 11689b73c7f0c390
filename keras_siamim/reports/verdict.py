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
# Measures by key: the title of their column.
COLUMNS = {"knn": "k-NN accuracy", "linear": "linear probe", "rank": "effective rank", "place": "right place"}
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


def verdict_table(measured: Measured) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the header and the rows of a table of the measures that were taken.

    Args:
        measured: Dictionary from keys of `REPRESENTATIONS` to dictionaries with keys of `COLUMNS`, which may be
            missing, and `place_chance`.

    Example:
        >>> verdict_table({"trained": {"knn": 0.8, "rank": 31.04}, "raw_pixels": {"rank": 9}})
        (('', 'k-NN accuracy', 'effective rank'), [('trained encoder', '80.0 %', '31.0'), ('raw pixels', '–', '9.0')])
    """
    keys = [key for key in COLUMNS if any(key in values for values in measured.values())]
    chance = next((values["place_chance"] for values in measured.values() if "place_chance" in values), None)
    titles = {**COLUMNS, "place": f"{COLUMNS['place']} (chance {percent(chance)})"}
    rows = [
        (title, *(_cell(key, measured[name].get(key)) for key in keys))
        for name, title in REPRESENTATIONS.items()
        if name in measured
    ]
    return ("", *(titles[key] for key in keys)), rows


def _cell(key, value):
    return percent(value) if key != "rank" or value is None else f"{value:.1f}"


def verdict(measured: Measured, test_images: int) -> str:
    """Return a sentence or two that tell whether training was worth it.

    k-NN decides. A linear probe that decides otherwise is mentioned. Two accuracies count as different if they are more
    than two standard errors of their difference apart.

    Args:
        measured: As for `verdict_table`.
        test_images: Integer. Number of held-out images; 0 if accuracies were not measured.

    Example:
        >>> verdict({"trained": {"knn": 0.8}, "initial": {"knn": 0.5}, "raw_pixels": {"knn": 0.6}}, test_images=1000)
        'Training was worth it: k-NN accuracy is 80.0 %, above 50.0 % without training and 60.0 % of raw pixels.'
    """
    knn, linear = (_accuracies(measured, key) for key in ("knn", "linear"))
    if knn is None:
        return _without_accuracies(measured)
    sentence = _by_knn(*knn, test_images)
    if linear is None or _level(*linear, test_images) == _level(*knn, test_images):
        return sentence
    trained, untrained, raw = linear
    pixels = f" and {percent(raw)} of raw pixels" if raw else ""
    return (
        f"{sentence} A linear probe comes to another order: {percent(trained)}, with {percent(untrained)} without "
        f"training{pixels}."
    )


def _accuracies(measured: Measured, key: str) -> tuple[float, float, float] | None:
    """Return the accuracies of the trained encoder, of the best untrained one, and of raw pixels or 0; or None."""
    found = {name: values[key] for name, values in measured.items() if key in values}
    untrained = max((found[name] for name in ("initial", "random") if name in found), default=None)
    if "trained" not in found or untrained is None:
        return None
    return found["trained"], untrained, found.get("raw_pixels", 0.0)


def _level(trained, untrained, raw, images):
    """Return 0 if training did not help, 1 if it did, and 2 if the features are also better than raw pixels."""
    if not _above(trained, untrained, images):
        return 0
    return 2 if _above(trained, raw, images) else 1


def _by_knn(trained, untrained, raw, images):
    found, level = f"k-NN accuracy is {percent(trained)}", _level(trained, untrained, raw, images)
    if level == 0:
        return (
            f"Training did not improve the features: {found}, and {percent(untrained)} without training. Look at the "
            "curves and the view pairs, and train for more epochs."
        )
    if level == 2:
        pixels = f" and {percent(raw)} of raw pixels" if raw else ""
        return f"Training was worth it: {found}, above {percent(untrained)} without training{pixels}."
    than = "raw pixels do better with" if _above(raw, trained, images) else "raw pixels do as well with"
    return (
        f"Training improved the features, but {than} {percent(raw)}: {found}, and {percent(untrained)} without "
        "training. Train for more epochs or on more images, or use smaller patches."
    )


def _above(first, second, images):
    variance = (first * (1 - first) + second * (1 - second)) / max(images, 1)
    return first - second > 2 * math.sqrt(variance)


def _without_accuracies(measured):
    trained, initial = (measured.get(name, {}) for name in ("trained", "initial"))
    if "rank" not in trained or "rank" not in initial:
        return "Too little was measured for a verdict."
    course = f"The effective rank of the features went from {initial['rank']:.1f} to {trained['rank']:.1f}"
    if "place" in trained and "place" in initial:
        course += (
            f", and predictions across views find the right place in {percent(trained['place'])} of all cases, "
            f"{percent(initial['place'])} before training and {percent(trained['place_chance'])} by chance"
        )
    if trained["rank"] < LOW_RANK * initial["rank"]:
        return f"{course}. The features may have collapsed. Without labels, their accuracy is unknown."
    return f"{course}. Without labels, their accuracy is unknown: look at the pictures, or evaluate on labeled images."
