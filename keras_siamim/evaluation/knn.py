"""k-nearest-neighbour classification of frozen features: exact, in bounded memory, with a weighted vote.

The protocol of Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (CVPR 2018,
arXiv 1805.01978), section 3.4: cosine similarity, votes weighted by exp(similarity / temperature).
"""

import hashlib
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_siamim.evaluation.checks import check_splits, describe_splits
from keras_siamim.evaluation.result import EvaluationResult, stopwatch

# Similarities are compared to this fraction of 1, a power of two.
RESOLUTION = 2.0**20


def normalise(features) -> np.ndarray:
    """Return (images, width) float32 rows of length 1; a row of zeros stays zeros."""
    features = np.asarray(features, dtype="float32")
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def nearest_neighbours(
    queries, bank, k: int, query_chunk: int = 1024, bank_chunk: int = 16_384, verbose: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Find the `k` rows of `bank` most similar to each query, by cosine similarity.

    Every similarity is computed and none is approximated; of rows equally similar, to a millionth, the first wins. Only
    `query_chunk * bank_chunk` similarities exist at a time, and of `bank` only one chunk is copied, so it may be a
    memory map of any length.

    Args:
        queries: (queries, width) floats.
        bank: (bank, width) floats.
        k: number of neighbours, 1...bank.
        query_chunk: queries compared at a time.
        bank_chunk: rows of the bank compared at a time.
        verbose: 1 shows a progress bar.

    Returns:
        Similarities (queries, k) float32, descending, and the row numbers of the bank (queries, k) int64.

    Raises:
        ValueError: if `k` is outside 1...bank.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f"`k` must be in 1...{len(bank)}, the number of rows of `bank`; received {k}.")
    first, members = _equal_rows(bank, bank_chunk, k)
    if members is not None:
        # Equal rows are compared once, so that they are equally similar however the products are cut.
        similarities, ids = nearest_neighbours(
            queries, bank[first], min(k, len(first)), query_chunk, bank_chunk, verbose
        )
        return _expanded(similarities, ids, members, k)
    query_starts = range(0, len(queries), query_chunk)
    chunks = [ops.convert_to_tensor(normalise(queries[i : i + query_chunk])) for i in query_starts]
    best = [(np.empty((len(c), 0), "float32"), np.empty((len(c), 0), "int64")) for c in chunks]
    bank_starts = range(0, len(bank), bank_chunk)
    progress = keras.utils.Progbar(len(bank_starts) * len(chunks), verbose=verbose, unit_name="chunk")
    for start in bank_starts:
        rows = ops.transpose(ops.convert_to_tensor(normalise(bank[start : start + bank_chunk])))
        for number, chunk in enumerate(chunks):
            # Rounded: what differs by the order of a product's sums alone is equally similar, but for rare values.
            similarities = ops.round(ops.matmul(chunk, rows) * RESOLUTION) / RESOLUTION
            best[number] = _merge(best[number], *_first_of_the_nearest(similarities, k, start), k)
            progress.add(1)
    return np.concatenate([b[0] for b in best]), np.concatenate([b[1] for b in best])


def _equal_rows(bank, chunk, k):
    """Numbers of rows that differ, and of each the first `k` rows equal to it; None if all differ."""
    numbers, members = {}, []
    for start in range(0, len(bank), chunk):
        for number, row in enumerate(np.ascontiguousarray(bank[start : start + chunk]), start):
            # By digest, which is smaller than the row.
            place = numbers.setdefault(hashlib.blake2b(row, digest_size=16).digest(), len(members))
            if place == len(members):
                members.append([number])
            elif len(members[place]) < k:
                members[place].append(number)
    if len(members) == len(bank):
        return None, None
    return np.array([own[0] for own in members]), members


def _expanded(similarities, ids, members, k):
    """The `k` nearest rows from the nearest of those that differ, equals in the order of their numbers."""
    rows = []
    for own_similarities, own_ids in zip(similarities, ids, strict=True):
        pairs = [(-s, n) for s, i in zip(own_similarities.tolist(), own_ids, strict=True) for n in members[i]]
        rows.append(sorted(pairs)[:k])
    found = np.array(rows)
    return (-found[..., 0]).astype("float32"), found[..., 1].astype("int64")


def _first_of_the_nearest(similarities, k, start):
    """The `k` largest of each row and their numbers from `start`; of equals, those of the lowest numbers."""
    count = similarities.shape[1]
    largest, ids = ops.top_k(similarities, min(k, count))
    largest, ids = ops.convert_to_numpy(largest), ops.convert_to_numpy(ids).astype(np.int64)
    if k < count:
        smallest = ops.convert_to_tensor(largest[:, -1:])
        # Backends differ in which of several rows equal to the k-th they take.
        among = ops.convert_to_numpy(ops.sum(ops.cast(ops.greater_equal(similarities, smallest), "int32"), axis=1))
        for row in np.flatnonzero(among > k):
            values = ops.convert_to_numpy(similarities[int(row)])
            ids[row] = np.argsort(-values, kind="stable")[:k]
            largest[row] = values[ids[row]]
    order = np.lexsort((ids, -largest), axis=1)
    return np.take_along_axis(largest, order, axis=1), np.take_along_axis(ids, order, axis=1) + start


def _merge(best, similarities, ids, k):
    """Merge the best so far with those of a further chunk; of equals the earlier row of the bank comes first."""
    similarities = np.concatenate([best[0], similarities], axis=1)
    ids = np.concatenate([best[1], ids], axis=1)
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarities, order, axis=1), np.take_along_axis(ids, order, axis=1)


def vote(similarities, neighbour_labels, temperature: float) -> np.ndarray:
    """Let each neighbour vote for its class with weight exp(similarity / temperature), and count.

    Memory grows with the number of neighbours, not with that of classes.

    Args:
        similarities: (queries, k) floats.
        neighbour_labels: (queries, k) integers.
        temperature: above 0; the smaller, the more the nearest neighbours count.

    Returns:
        (queries,) int64, the class with most votes; of equals, the lowest.
    """
    similarities, labels = np.asarray(similarities, "float64"), np.asarray(neighbour_labels, "int64")
    weights = np.exp((similarities - similarities.max(axis=1, keepdims=True)) / temperature)
    order = np.argsort(labels, axis=1, kind="stable")
    labels, weights = np.take_along_axis(labels, order, axis=1), np.take_along_axis(weights, order, axis=1)
    # One group for every class among a query's neighbours.
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
        k: how many neighbours vote; several values share one search. A value above the number of training images is
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
    wanted = tuple(int(value) for value in np.atleast_1d(k))
    if not wanted or min(wanted) < 1:
        raise ValueError(f"`k` must be one or more positive integers; received {k}.")
    if not temperature > 0:
        raise ValueError(f"`temperature` must be above 0; received {temperature}.")
    count = len(train_features)
    used = sorted({min(value, count) for value in wanted})
    notes = tuple(f"k = {v} was reduced to {count}, the number of training images." for v in wanted if v > count)
    with stopwatch() as seconds:
        similarities, ids = nearest_neighbours(test_features, train_features, used[-1], verbose=verbose)
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
