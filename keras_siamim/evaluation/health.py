"""Representation health: metrics that detect a collapsed representation without labels.

Sources: RankMe, Garrido et al. (ICML 2023, arXiv 2210.02885), equation 1; alignment and uniformity, Wang and Isola
(ICML 2020, arXiv 2005.10242), section 4.
"""

import numpy as np

from keras_siamim.evaluation.checks import check_features
from keras_siamim.evaluation.knn import normalize
from keras_siamim.evaluation.result import EvaluationResult, stopwatch
from keras_siamim.types import ArrayLike

_RANK_EPSILON = 1e-7  # RankMe's, inside the logarithm
_CHUNK = 2048  # rows of the matrix of pairs in memory at a time


def effective_rank(features: ArrayLike) -> float:
    """Return RankMe, a soft count of the directions that the features span.

    It is the exponential of the entropy of the normalized singular values. The value is 1 if all features lie on one
    line through the origin (collapse), and min(images, width) if all directions have the same energy.

    Args:
        features: (images, width) floats, not centered.

    Returns:
        Float in [1, min(images, width)], up to rounding.

    Example:
        >>> round(effective_rank(np.eye(4)), 2)
        4.0
    """
    features = np.asarray(features)
    if len(features) < features.shape[1]:
        features = features.T
    gram = np.zeros((features.shape[1],) * 2)
    for start in range(0, len(features), _CHUNK):
        rows = features[start : start + _CHUNK].astype("float64")
        gram += rows.T @ rows
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0))
    share = singular / max(singular.sum(), np.finfo("float64").tiny) + _RANK_EPSILON
    return float(np.exp(-np.sum(share * np.log(share))))


def channel_spread(features: ArrayLike) -> float:
    """Return the mean standard deviation per channel of the L2-normalized features, times sqrt(width).

    The value is about 1 for features spread evenly over the sphere, and 0 for a collapsed representation.

    Args:
        features: (images, width) floats.

    Returns:
        Float, 0 or more.

    Example:
        >>> channel_spread([[1.0, 0.0], [1.0, 0.0]])
        0.0
    """
    unit = normalize(features)
    return float(np.sqrt(unit.shape[1]) * unit.std(axis=0, dtype="float64").mean())


def alignment(features: ArrayLike, paired_features: ArrayLike) -> float:
    """Return the mean squared distance between the normalized features of two views of each image.

    The value is 0 for identical views, and about 2 for unrelated ones.

    Args:
        features: (images, width) floats of the first view.
        paired_features: (images, width) floats of the second view, in the same order.

    Returns:
        Float in [0, 4].

    Example:
        >>> alignment([[1.0, 0.0]], [[0.0, 1.0]])
        2.0
    """
    gaps = normalize(features) - normalize(paired_features)
    return float(np.square(gaps).sum(axis=1, dtype="float64").mean())


def uniformity(features: ArrayLike, t: float = 2.0) -> float:
    """Return the logarithm of the mean Gaussian potential over all pairs of different images.

    The value is 0 for a collapsed representation and about -2 t for features spread over a sphere of high dimension.
    Lower is better.

    Args:
        features: (images, width) floats, two images or more.
        t: Float above 0. Sharpness of the potential. Defaults to 2.

    Returns:
        Float, 0 or less.

    Example:
        >>> round(uniformity([[1.0, 0.0], [0.0, 1.0]]), 4)
        -4.0
    """
    unit = normalize(features)
    total = 0.0
    for start in range(0, len(unit), _CHUNK):
        rows = unit[start : start + _CHUNK]
        distances = np.maximum(2 - 2 * (rows @ unit.T), 0)
        potential = np.exp(-t * distances)
        potential[np.arange(len(rows)), start + np.arange(len(rows))] = 0  # no pairs of an image with itself
        total += float(potential.sum(dtype="float64"))
    return float(np.log(total / (len(unit) * (len(unit) - 1))))


def dead_channels(features: ArrayLike, limit: float = 0.01) -> float:
    """Return the share of channels that are the same for all images.

    A channel is dead if its standard deviation over the images is below `limit` times the root mean square of all
    values. In a collapsed representation all channels are dead, also those whose constant value is large.

    Args:
        features: (images, width) floats.
        limit: Float above 0. Defaults to 0.01.

    Returns:
        Float in [0, 1].

    Example:
        >>> dead_channels([[1.0, 5.0], [3.0, 5.0]])
        0.5
    """
    features = np.asarray(features, "float64")
    scale = max(float(np.sqrt(np.mean(features**2))), np.finfo("float64").tiny)
    return float(np.mean(features.std(axis=0) < limit * scale))


def same_image_rank(features: ArrayLike, paired_features: ArrayLike) -> float:
    """Return how often the other crop of the same image is nearer than a crop of another image.

    The share is over all triples of a crop, the other crop of its image, and the other crop of another image, by cosine
    similarity after the mean over the images is subtracted; ties count one half. The value is 1 if features tell images
    apart, and about 0.5 if they depend on positions alone.

    Args:
        features: (images, width) floats of one crop per image, two images or more.
        paired_features: (images, width) floats of another crop of the same images.

    Returns:
        Float in [0, 1].

    Example:
        >>> same_image_rank([[1.0, 0.0], [0.0, 1.0]], [[2.0, 1.0], [1.0, 2.0]])
        1.0
    """
    first, second = (np.asarray(x, "float64") for x in (features, paired_features))
    unit_1, unit_2 = (normalize(x - x.mean(axis=0)) for x in (first, second))
    similarity = unit_1 @ unit_2.T
    own = np.diag(similarity)[:, None]
    nearer = (own > similarity) + 0.5 * (own == similarity)
    count = len(similarity)
    return float((nearer.sum() - 0.5 * count) / (count * (count - 1)))


def health(
    features: ArrayLike, paired_features: ArrayLike | None = None, max_pairs_from: int = 10_000, seed: int = 0
) -> EvaluationResult:
    """Measure effective rank, channel spread, uniformity and, given a second view, alignment.

    Args:
        features: (images, width) floats, two images or more.
        paired_features: (paired images, width) floats of another view of the first images, or `None` to omit the
            alignment. Defaults to `None`.
        max_pairs_from: Integer, 2 or more. Number of images, at most, whose pairs uniformity compares. From larger
            splits a random subset is drawn. Defaults to 10,000.
        seed: Integer. Seed of the subset. Defaults to 0.

    Returns:
        An `EvaluationResult` with `effective_rank`, `channel_spread`, `uniformity` and, given a second view,
        `alignment`.

    Raises:
        ValueError: If the features are malformed or fewer than two, or the second view does not fit the first.

    Example:
        >>> collapsed = health(np.ones((8, 4), "float32")).numbers
        >>> round(collapsed["effective_rank"], 2), round(collapsed["channel_spread"], 2)
        (1.0, 0.0)
    """
    features = check_features(features, "features")
    if len(features) < 2:
        raise ValueError(f"`features` must hold at least two images. Received: {len(features)}.")
    if max_pairs_from < 2:
        raise ValueError(f"`max_pairs_from` must be 2 or more. Received: {max_pairs_from}.")
    if paired_features is not None:
        paired_features = check_features(paired_features, "paired_features")
        if len(paired_features) > len(features) or paired_features.shape[1:] != features.shape[1:]:
            raise ValueError(
                f"`paired_features` must have the width of `features`, {features.shape[1]}, and at most its "
                f"{len(features)} rows. Received: shape {paired_features.shape}."
            )
    with stopwatch() as seconds:
        subset = features
        if len(features) > max_pairs_from:
            ids = np.random.default_rng(seed).choice(len(features), max_pairs_from, replace=False)
            subset = features[np.sort(ids)]
        numbers = {
            "effective_rank": effective_rank(features),
            "channel_spread": channel_spread(features),
            "uniformity": uniformity(subset),
        }
        if paired_features is not None:
            numbers["alignment"] = alignment(features[: len(paired_features)], paired_features)
    return EvaluationResult(
        protocol="health",
        numbers=numbers,
        settings={"max_pairs_from": max_pairs_from},
        data={"images": len(features), "width": features.shape[1]},
        seed=seed,
        seconds=seconds(),
    )
