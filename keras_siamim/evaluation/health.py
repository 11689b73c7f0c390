"""Is the representation alive? Figures that need no labels.

Sources: RankMe, Garrido et al. (ICML 2023, arXiv 2210.02885), equation 1; alignment and uniformity, Wang and Isola
(ICML 2020, arXiv 2005.10242), section 4.
"""

import numpy as np

from keras_siamim.evaluation.checks import check_features
from keras_siamim.evaluation.knn import normalize
from keras_siamim.evaluation.result import EvaluationResult, stopwatch

_RANK_EPSILON = 1e-7  # RankMe's, inside the logarithm
_CHUNK = 2048  # rows of a matrix of pairs that exist at a time


def effective_rank(features) -> float:
    """Return RankMe: how many directions the features use, softly counted.

    exp of the entropy of the singular values' distribution: 1 where all features lie on one line through the origin
    (collapse), min(images, width) where every direction has the same energy.

    Args:
        features: (images, width) floats, not centered.
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


def channel_spread(features) -> float:
    """Return the mean standard deviation per channel of the L2-normalized features, times sqrt(width).

    About 1 for directions spread evenly over the sphere, 0 for a collapsed representation.

    Args:
        features: (images, width) floats.
    """
    unit = normalize(features)
    return float(np.sqrt(unit.shape[1]) * unit.std(axis=0, dtype="float64").mean())


def alignment(features, paired_features) -> float:
    """Return the mean squared distance between the normalized features of two views of each image.

    0 where the views agree, about 2 where they have nothing in common.

    Args:
        features: (images, width) floats, of the first view.
        paired_features: (images, width) floats, of the second view, in the same order.
    """
    gaps = normalize(features) - normalize(paired_features)
    return float(np.square(gaps).sum(axis=1, dtype="float64").mean())


def uniformity(features, t: float = 2.0) -> float:
    """Return the logarithm of the mean Gaussian potential over all pairs of different images.

    0 for a collapsed representation; the lower the better, about -2 t for features spread over a wide sphere.

    Args:
        features: (images, width) floats, two images or more.
        t: sharpness of the potential, above 0.
    """
    unit = normalize(features)
    total = 0.0
    for start in range(0, len(unit), _CHUNK):
        rows = unit[start : start + _CHUNK]
        distances = np.maximum(2 - 2 * (rows @ unit.T), 0)
        potential = np.exp(-t * distances)
        potential[np.arange(len(rows)), start + np.arange(len(rows))] = 0
        total += float(potential.sum(dtype="float64"))
    return float(np.log(total / (len(unit) * (len(unit) - 1))))


def health(features, paired_features=None, max_pairs_from: int = 10_000, seed: int = 0) -> EvaluationResult:
    """Measure effective rank, spread, uniformity and, given a second view, alignment.

    Args:
        features: (images, width) floats, two images or more.
        paired_features: (paired images, width) floats of another view of the first images; without it there is no
            alignment.
        max_pairs_from: uniformity compares all pairs among at most this many images, drawn by `seed`.
        seed: of that draw.

    Returns:
        An `EvaluationResult` with `effective_rank`, `channel_spread`, `uniformity` and maybe `alignment`.

    Raises:
        ValueError: if the features are malformed, fewer than two, or the second view does not fit the first.

    Example:
        >>> import numpy as np
        >>> collapsed = health(np.ones((8, 4), "float32")).numbers
        >>> round(collapsed["effective_rank"], 2), round(collapsed["channel_spread"], 2)
        (1.0, 0.0)
    """
    features = check_features(features, "features")
    if len(features) < 2:
        raise ValueError(f"`features` must hold at least two images; received {len(features)}.")
    if max_pairs_from < 2:
        raise ValueError(f"`max_pairs_from` must be at least 2; received {max_pairs_from}.")
    if paired_features is not None:
        paired_features = check_features(paired_features, "paired_features")
        if len(paired_features) > len(features) or paired_features.shape[1:] != features.shape[1:]:
            raise ValueError(
                f"`paired_features` must have the width of `features` and no more rows, {features.shape}; received "
                f"{paired_features.shape}."
            )
    with stopwatch() as seconds:
        drawn = features
        if len(features) > max_pairs_from:
            ids = np.random.default_rng(seed).choice(len(features), max_pairs_from, replace=False)
            drawn = features[np.sort(ids)]
        numbers = {
            "effective_rank": effective_rank(features),
            "channel_spread": channel_spread(features),
            "uniformity": uniformity(drawn),
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
