"""k-nearest-neighbor classification of frozen features: exact, in bounded memory, with a weighted vote.

The protocol of Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (CVPR 2018,
arXiv 1805.01978), section 3.4: cosine similarity, votes weighted by exp(similarity / temperature).
"""

import numbers
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_siamim.evaluation.checks import check_splits, describe_splits
from keras_siamim.evaluation.result import EvaluationResult, stopwatch
from keras_siamim.types import ArrayLike

# Entries of normalized rows are rounded to multiples of 1 / _RESOLUTION. float64 then holds every product and every
# partial sum of a dot product exactly, so that similarities do not depend on summation order, chunks or backend.
_RESOLUTION = 2.0**26
_MARGIN = 1e-5  # exceeds the error of a float32 dot product of two rows of length 1
_EXTRA_CANDIDATES = 16  # beyond the k nearest, so that few queries need the exact search over the complete bank
_RESCORE_CHUNK = 64  # queries whose candidates are copied at a time


def normalize(features: ArrayLike) -> np.ndarray:
    """Scale each row to length 1; a row of zeros stays zeros.

    Args:
        features: (images, width) floats.

    Returns:
        (images, width) float32.

    Example:
        >>> normalize([[0.0, 4.0], [0.0, 0.0]])
        array([[0., 1.],
               [0., 0.]], dtype=float32)
    """
    features = np.asarray(features, dtype="float32")
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _exact_rows(features):
    """Return rows of length 1 in float64, rounded so that their dot products are exact."""
    features = np.asarray(features, dtype="float64")
    features = features / np.maximum(np.sqrt(np.sum(features**2, axis=-1, keepdims=True)), 1e-12)
    return np.round(features * _RESOLUTION) / _RESOLUTION


def nearest_neighbors(
    queries: np.ndarray,
    bank: np.ndarray,
    k: int,
    query_chunk: int = 1024,
    bank_chunk: int = 16_384,
    verbose: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the `k` rows of `bank` with the largest cosine similarity to each query.

    The result is exact: the backend selects candidates in float32, whose similarities are then computed exactly. Ties
    go to the lowest row index. Memory holds `query_chunk * bank_chunk` similarities and one chunk of `bank` at a time,
    so `bank` may be a memory map of any length.

    Args:
        queries: (queries, width) floats.
        bank: (bank, width) floats.
        k: Integer in [1, bank]. Number of neighbors.
        query_chunk: Integer. Queries compared at a time. Defaults to 1024.
        bank_chunk: Integer. Rows of the bank compared at a time. Defaults to 16,384.
        verbose: Integer. 1 shows a progress bar. Defaults to 0.

    Returns:
        Similarities (queries, k) float32, descending, and row indices into the bank (queries, k) int64.

    Raises:
        ValueError: If `k` is not an integer in [1, bank].

    Example:
        >>> nearest_neighbors(np.array([[0.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 1.0]]), k=1)
        (array([[1.]], dtype=float32), array([[1]]))
    """
    if not _is_count(k) or k > len(bank):
        raise ValueError(f"`k` must be an integer in [1, {len(bank)}], the rows of `bank`. Received: {k}.")
    k = int(k)
    kept = min(k + _EXTRA_CANDIDATES, len(bank))
    query_starts = range(0, len(queries), query_chunk)
    chunks = [ops.convert_to_tensor(normalize(queries[i : i + query_chunk])) for i in query_starts]
    best = [(np.empty((len(c), 0), "float32"), np.empty((len(c), 0), "int64")) for c in chunks]
    bank_starts = range(0, len(bank), bank_chunk)
    progress = keras.utils.Progbar(len(bank_starts) * len(chunks), verbose=verbose, unit_name="chunk")
    for start in bank_starts:
        rows = ops.transpose(ops.convert_to_tensor(normalize(bank[start : start + bank_chunk])))
        for index, chunk in enumerate(chunks):
            similarities, ids = ops.top_k(ops.matmul(chunk, rows), min(kept, rows.shape[1]))
            ids = ops.convert_to_numpy(ids).astype("int64") + start
            best[index] = _merge(best[index], ops.convert_to_numpy(similarities), ids, kept)
            progress.add(1)
    found = [
        _rescore(queries[start : start + query_chunk], bank, *candidates, k, bank_chunk)
        for start, candidates in zip(query_starts, best, strict=True)
    ]
    return np.concatenate([f[0] for f in found]).astype("float32"), np.concatenate([f[1] for f in found])


def _merge(best, similarities, ids, k):
    """Merge the best rows so far with those of a further chunk; ties go to the earlier column."""
    similarities = np.concatenate([best[0], similarities], axis=1)
    ids = np.concatenate([best[1], ids], axis=1)
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarities, order, axis=1), np.take_along_axis(ids, order, axis=1)


def _rescore(queries, bank, approximate, ids, k, bank_chunk):
    """Return the `k` nearest by exact similarity, from the complete bank where the candidates may not suffice."""
    similarities = np.empty((len(queries), k))
    nearest = np.empty((len(queries), k), "int64")
    for start in range(0, len(queries), _RESCORE_CHUNK):
        part = slice(start, start + _RESCORE_CHUNK)
        rows = _exact_rows(bank[ids[part].ravel()]).reshape(*ids[part].shape, -1)
        exact = np.matmul(rows, _exact_rows(queries[part])[..., None])[..., 0]
        order = np.lexsort((ids[part], -exact), axis=1)[:, :k]
        similarities[part] = np.take_along_axis(exact, order, axis=1)
        nearest[part] = np.take_along_axis(ids[part], order, axis=1)
    if ids.shape[1] < len(bank):
        # Up to the margin, every other row is at most as similar as the last candidate. Where the k-th neighbor is not
        # clearly above that, another row may tie with it or beat it.
        unsure = np.flatnonzero(similarities[:, -1] <= approximate[:, -1] + _MARGIN)
        if len(unsure):
            similarities[unsure], nearest[unsure] = _exact_search(queries[unsure], bank, k, bank_chunk)
    return similarities, nearest


def _exact_search(queries, bank, k, bank_chunk):
    """Return the `k` nearest of all rows by exact similarity; ties go to the lowest index."""
    queries = _exact_rows(queries)
    best = np.empty((len(queries), 0)), np.empty((len(queries), 0), "int64")
    for start in range(0, len(bank), bank_chunk):
        similarities = queries @ _exact_rows(bank[start : start + bank_chunk]).T
        count = min(k, similarities.shape[1])
        least = -np.partition(-similarities, count - 1, axis=1)[:, count - 1 : count]
        above, equal = similarities > least, similarities == least
        first = equal & (np.cumsum(equal, axis=1) <= count - above.sum(axis=1, keepdims=True))
        columns = np.nonzero(above | first)[1].reshape(-1, count)  # ascending, so that a stable sort keeps their order
        best = _merge(best, np.take_along_axis(similarities, columns, axis=1), columns + start, k)
    return best


def _is_count(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= 1


def vote(similarities: ArrayLike, neighbor_labels: ArrayLike, temperature: float) -> np.ndarray:
    """Return the class with the largest sum of exp(similarity / temperature) over the neighbors.

    Memory grows with the number of neighbors and is independent of the number of classes.

    Args:
        similarities: (queries, k) floats.
        neighbor_labels: (queries, k) integers.
        temperature: Float above 0. Smaller values give the nearest neighbors more weight.

    Returns:
        (queries,) int64 classes. Ties go to the lowest class.

    Example:
        >>> vote([[0.9, 0.5, 0.5]], [[7, 3, 3]], temperature=0.07)
        array([7])
    """
    similarities, labels = np.asarray(similarities, "float64"), np.asarray(neighbor_labels, "int64")
    weights = np.exp((similarities - similarities.max(axis=1, keepdims=True)) / temperature)
    order = np.argsort(labels, axis=1, kind="stable")
    labels, weights = np.take_along_axis(labels, order, axis=1), np.take_along_axis(weights, order, axis=1)
    # One group per query and class among its neighbors.
    begins = np.ones(labels.shape, bool)
    begins[:, 1:] = labels[:, 1:] != labels[:, :-1]
    starts = np.flatnonzero(begins)
    votes, queries = np.add.reduceat(weights.ravel(), starts), starts // labels.shape[1]
    winners = np.lexsort((labels.ravel()[starts], -votes, queries))
    return labels.ravel()[starts][winners[np.searchsorted(queries, np.arange(len(labels)))]]


def knn(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    k: int | Sequence[int] = (10, 20, 100, 200),
    temperature: float = 0.07,
    num_classes: int | None = None,
    verbose: int = 0,
) -> EvaluationResult:
    """Classify the test features by a weighted vote of their nearest training features.

    Args:
        train_features: (train images, width) floats.
        train_labels: (train images,) integers in [0, num_classes).
        test_features: (test images, width) floats.
        test_labels: (test images,) integers in [0, num_classes).
        k: Integer or sequence of integers, 1 or more. Number of neighbors; several values share one search. A value
            above the number of training images is reduced to that number, which a note reports. Defaults to
            (10, 20, 100, 200).
        temperature: Float above 0. Temperature of the vote. Defaults to 0.07.
        num_classes: Integer or `None`. Number of classes; `None` stands for the largest training label plus 1.
            Defaults to `None`.
        verbose: Integer. 1 shows a progress bar. Defaults to 0.

    Returns:
        An `EvaluationResult` with one number `top1_k{k}` per `k`.

    Raises:
        ValueError: If features or labels are malformed, there is one class only, or `k` or `temperature` is not
            positive.

    Example:
        >>> features, labels = np.eye(4, dtype="float32"), np.array([0, 0, 1, 1])
        >>> knn(features, labels, features, labels, k=1).numbers
        {'top1_k1': 1.0}
    """
    arrays = check_splits(train_features, train_labels, test_features, test_labels, num_classes)
    train_features, train_labels, test_features, test_labels, num_classes = arrays
    requested = tuple(np.atleast_1d(k))
    if not requested or not all(_is_count(value) for value in requested):
        raise ValueError(f"`k` must be one or more positive integers. Received: {k}.")
    requested = tuple(int(value) for value in requested)
    if not temperature > 0:
        raise ValueError(f"`temperature` must be above 0. Received: {temperature}.")
    count = len(train_features)
    used = sorted({min(value, count) for value in requested})
    notes = tuple(f"k = {v} was reduced to {count}, the number of training images." for v in requested if v > count)
    with stopwatch() as seconds:
        similarities, ids = nearest_neighbors(test_features, train_features, used[-1], verbose=verbose)
        labels = train_labels[ids]
        accuracies = {}
        for value in used:
            predicted = vote(similarities[:, :value], labels[:, :value], temperature)
            accuracies[f"top1_k{value}"] = float(np.mean(predicted == test_labels))
    return EvaluationResult(
        protocol="knn",
        numbers=accuracies,
        settings={"k": used, "temperature": temperature, "similarity": "cosine"},
        data=describe_splits(train_labels, test_labels, train_features.shape[1], num_classes),
        seed=None,
        seconds=seconds(),
        notes=notes,
    )
