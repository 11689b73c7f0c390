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

# Entries of normalized rows are rounded to this fraction of 1, so that float64 holds every product and every partial
# sum of a dot product exactly: no order of summation, hence no chunk and no backend, changes a similarity.
_EXACT = 2.0**26
# Above the error of a float32 dot product of two rows of length 1.
_MARGIN = 1e-5
# Candidates beside the k nearest, so that few queries have to be compared exactly to the whole bank.
_SPARE = 16
_RESCORED = 64  # queries whose candidates are copied at a time


def normalize(features) -> np.ndarray:
    """Return (images, width) float32 rows of length 1; a row of zeros stays zeros."""
    features = np.asarray(features, dtype="float32")
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _exact_rows(features):
    """Rows of length 1 in float64, rounded so that their dot products are exact."""
    features = np.asarray(features, dtype="float64")
    features = features / np.maximum(np.sqrt(np.sum(features**2, axis=-1, keepdims=True)), 1e-12)
    return np.round(features * _EXACT) / _EXACT


def nearest_neighbors(
    queries, bank, k: int, query_chunk: int = 1024, bank_chunk: int = 16_384, verbose: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Find the `k` rows of `bank` most similar to each query, by cosine similarity.

    The backend selects candidates in float32; their similarities are then computed exactly, and of equal ones the
    lowest row number comes first. Where more rows than the candidates are as near as the k-th, the whole bank is
    compared exactly. Only `query_chunk * bank_chunk` similarities exist at a time, and of `bank` only one chunk is
    copied, so it may be a memory map of any length.

    Args:
        queries: (queries, width) floats.
        bank: (bank, width) floats.
        k: number of neighbors, 1...bank.
        query_chunk: queries compared at a time.
        bank_chunk: rows of the bank compared at a time.
        verbose: 1 shows a progress bar.

    Returns:
        Similarities (queries, k) float32, descending, and the row numbers of the bank (queries, k) int64.

    Raises:
        ValueError: if `k` is no whole number in 1...bank.
    """
    if not _is_count(k) or k > len(bank):
        raise ValueError(f"`k` must be in 1...{len(bank)}, the number of rows of `bank`; received {k}.")
    k = int(k)
    kept = min(k + _SPARE, len(bank))
    query_starts = range(0, len(queries), query_chunk)
    chunks = [ops.convert_to_tensor(normalize(queries[i : i + query_chunk])) for i in query_starts]
    best = [(np.empty((len(c), 0), "float32"), np.empty((len(c), 0), "int64")) for c in chunks]
    bank_starts = range(0, len(bank), bank_chunk)
    progress = keras.utils.Progbar(len(bank_starts) * len(chunks), verbose=verbose, unit_name="chunk")
    for start in bank_starts:
        rows = ops.transpose(ops.convert_to_tensor(normalize(bank[start : start + bank_chunk])))
        for number, chunk in enumerate(chunks):
            similarities, ids = ops.top_k(ops.matmul(chunk, rows), min(kept, rows.shape[1]))
            ids = ops.convert_to_numpy(ids).astype("int64") + start
            best[number] = _merge(best[number], ops.convert_to_numpy(similarities), ids, kept)
            progress.add(1)
    found = [
        _rescore(queries[start : start + query_chunk], bank, *candidates, k, bank_chunk)
        for start, candidates in zip(query_starts, best, strict=True)
    ]
    return np.concatenate([f[0] for f in found]).astype("float32"), np.concatenate([f[1] for f in found])


def _merge(best, similarities, ids, k):
    """Merge the best so far with those of a further chunk; of equals the earlier column comes first."""
    similarities = np.concatenate([best[0], similarities], axis=1)
    ids = np.concatenate([best[1], ids], axis=1)
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarities, order, axis=1), np.take_along_axis(ids, order, axis=1)


def _rescore(queries, bank, approximate, ids, k, bank_chunk):
    """The `k` nearest among the candidates by their exact similarities, or among all rows where those may be equal."""
    similarities = np.empty((len(queries), k))
    nearest = np.empty((len(queries), k), "int64")
    for start in range(0, len(queries), _RESCORED):
        part = slice(start, start + _RESCORED)
        rows = _exact_rows(bank[ids[part].ravel()]).reshape(*ids[part].shape, -1)
        exact = np.matmul(rows, _exact_rows(queries[part])[..., None])[..., 0]
        order = np.lexsort((ids[part], -exact), axis=1)[:, :k]
        similarities[part] = np.take_along_axis(exact, order, axis=1)
        nearest[part] = np.take_along_axis(ids[part], order, axis=1)
    if ids.shape[1] < len(bank):
        # What is no candidate is at most as similar as the last one, to within the margin.
        unsure = np.flatnonzero(similarities[:, -1] <= approximate[:, -1] + _MARGIN)
        if len(unsure):
            similarities[unsure], nearest[unsure] = _exact_search(queries[unsure], bank, k, bank_chunk)
    return similarities, nearest


def _exact_search(queries, bank, k, bank_chunk):
    """The `k` nearest of all rows by exact similarities, of equals the first."""
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


def vote(similarities, neighbor_labels, temperature: float) -> np.ndarray:
    """Let each neighbor vote for its class with weight exp(similarity / temperature), and count.

    Memory grows with the number of neighbors, not with that of classes.

    Args:
        similarities: (queries, k) floats.
        neighbor_labels: (queries, k) integers.
        temperature: above 0; the smaller, the more the nearest neighbors count.

    Returns:
        (queries,) int64, the class with most votes; of equals, the lowest.
    """
    similarities, labels = np.asarray(similarities, "float64"), np.asarray(neighbor_labels, "int64")
    weights = np.exp((similarities - similarities.max(axis=1, keepdims=True)) / temperature)
    order = np.argsort(labels, axis=1, kind="stable")
    labels, weights = np.take_along_axis(labels, order, axis=1), np.take_along_axis(weights, order, axis=1)
    # One group for every class among a query's neighbors.
    begins = np.ones(labels.shape, bool)
    begins[:, 1:] = labels[:, 1:] != labels[:, :-1]
    starts = np.flatnonzero(begins)
    votes, queries = np.add.reduceat(weights.ravel(), starts), starts // labels.shape[1]
    winners = np.lexsort((labels.ravel()[starts], -votes, queries))
    return labels.ravel()[starts][winners[np.searchsorted(queries, np.arange(len(labels)))]]


def knn(
    train_features,
    train_labels,
    test_features,
    test_labels,
    k: int | Sequence[int] = (10, 20, 100, 200),
    temperature: float = 0.07,
    num_classes: int | None = None,
    verbose: int = 0,
) -> EvaluationResult:
    """Classify the test features by a weighted vote of their nearest training features.

    Args:
        train_features: (train images, width) floats.
        train_labels: (train images,) integers, 0...classes-1.
        test_features: (test images, width) floats.
        test_labels: (test images,) integers, 0...classes-1.
        k: how many neighbors vote; several values share one search. A value above the number of training images is
            reduced to that number, and a note says so.
        temperature: of the vote, above 0.
        num_classes: number of classes; by default one more than the largest training label.
        verbose: 1 shows a progress bar.

    Returns:
        An `EvaluationResult` with one number `top1_k{k}` per `k`.

    Raises:
        ValueError: if features or labels are malformed, there is one class only, or `k` or `temperature` is not
            positive.

    Example:
        >>> import numpy as np
        >>> features, labels = np.eye(4, dtype="float32"), np.array([0, 0, 1, 1])
        >>> knn(features, labels, features, labels, k=1).numbers
        {'top1_k1': 1.0}
    """
    arrays = check_splits(train_features, train_labels, test_features, test_labels, num_classes)
    train_features, train_labels, test_features, test_labels, num_classes = arrays
    wanted = tuple(np.atleast_1d(k))
    if not wanted or not all(_is_count(value) for value in wanted):
        raise ValueError(f"`k` must be one or more positive integers; received {k}.")
    wanted = tuple(int(value) for value in wanted)
    if not temperature > 0:
        raise ValueError(f"`temperature` must be above 0; received {temperature}.")
    count = len(train_features)
    used = sorted({min(value, count) for value in wanted})
    notes = tuple(f"k = {v} was reduced to {count}, the number of training images." for v in wanted if v > count)
    with stopwatch() as seconds:
        similarities, ids = nearest_neighbors(test_features, train_features, used[-1], verbose=verbose)
        labels = train_labels[ids]
        numbers = {}
        for value in used:
            predicted = vote(similarities[:, :value], labels[:, :value], temperature)
            numbers[f"top1_k{value}"] = float(np.mean(predicted == test_labels))
    return EvaluationResult(
        protocol="knn",
        numbers=numbers,
        settings={"k": used, "temperature": temperature, "similarity": "cosine"},
        data=describe_splits(train_labels, test_labels, train_features.shape[1], num_classes),
        seed=None,
        seconds=seconds(),
        notes=notes,
    )
