"""Similar and unusual images of a set, by their features."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from keras_siamim.evaluation.checks import check_features
from keras_siamim.evaluation.knn import normalize
from keras_siamim.types import ArrayLike

_CHUNK = 1024  # rows of the matrix of similarities in memory at a time
_EQUAL = 1e-6  # rounding of a cosine similarity in float32


class Neighbors(NamedTuple):
    """Nearest images of each image.

    Attributes:
        indices: (images, count) int64. The nearest other images, the nearest first.
        similarities: (images, count) float32. Their cosine similarities.
    """

    indices: np.ndarray
    similarities: np.ndarray

    def unusual(self) -> np.ndarray:
        """Return the images in the order of their mean similarity to their neighbors, the least similar first.

        Returns:
            (images,) int64.
        """
        return np.argsort(self.similarities.mean(axis=1), kind="stable")


def nearest_images(features: ArrayLike, count: int = 5) -> Neighbors:
    """Return the nearest other images of each image by cosine similarity.

    The mean of all features is subtracted first: it is common to all images and makes them look alike.

    Args:
        features: (images, width) floats.
        count: Integer, 1 or more. Neighbors per image, at most all others. Defaults to 5.

    Raises:
        ValueError: If there are fewer than two images, or `count` is below 1.

    Example:
        >>> nearest_images([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0]], count=1).indices.ravel().tolist()
        [1, 0, 1]
    """
    if count < 1:
        raise ValueError(f"`count` must be 1 or more. Received: {count}.")
    unit = _centered(features)
    count = min(count, len(unit) - 1)
    indices, similarities = [], []
    for start, similarity in _rows(unit):
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = -np.inf
        nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(similarity, nearest, axis=1), axis=1, kind="stable")
        nearest = np.take_along_axis(nearest, order, axis=1)
        indices.append(nearest)
        similarities.append(np.take_along_axis(similarity, nearest, axis=1))
    return Neighbors(np.concatenate(indices), np.concatenate(similarities))


def near_duplicates(features: ArrayLike, threshold: float = 0.99, most: int = 100_000) -> list[tuple[int, int, float]]:
    """Return the pairs of images whose features are almost equal.

    The mean of all features is subtracted first, as in `nearest_images`. Features that are equal up to rounding are a
    pair with similarity 1 in any case, also where nothing is left after the subtraction.

    Args:
        features: (images, width) floats.
        threshold: Float in (0, 1]. Cosine similarity of a pair after the mean is subtracted. Defaults to 0.99.
        most: Integer, 1 or more. Maximum number of pairs. Defaults to 100,000.

    Returns:
        List of tuples (first image, second image, similarity), the most similar pair first.

    Raises:
        ValueError: If there are fewer than two images, `threshold` is out of its range, or there are more pairs than
            `most`.

    Example:
        >>> [pair[:2] for pair in near_duplicates([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])]
        [(0, 1)]
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"`threshold` must be in (0, 1]. Received: {threshold}.")
    if most < 1:
        raise ValueError(f"`most` must be 1 or more. Received: {most}.")
    unit = _centered(features)
    whole = normalize(np.asarray(features))
    pairs: list[tuple[int, int, float]] = []
    for start, similarity in _rows(unit):
        equal = whole[start : start + len(similarity)] @ whole.T >= 1 - _EQUAL
        # Rounding may leave equal features just below 1.
        rows, columns = np.nonzero((similarity >= threshold - _EQUAL) | equal)
        kept = start + rows < columns
        rows, columns = rows[kept], columns[kept]
        if len(pairs) + len(rows) > most:
            raise ValueError(
                f"`threshold` must be so high that there are at most {most:,} pairs. Received: {threshold}, which "
                "gives more."
            )
        values = np.where(equal[rows, columns], 1.0, np.minimum(similarity[rows, columns], 1.0))
        pairs += zip((start + rows).tolist(), columns.tolist(), values.tolist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))


def _centered(features):
    features = check_features(features, "features")
    if len(features) < 2:
        raise ValueError(f"`features` must hold at least two images. Received: {len(features)}.")
    return normalize(features - features.mean(axis=0, dtype="float64"))


def _rows(unit) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(unit), _CHUNK):
        yield start, unit[start : start + _CHUNK] @ unit.T
