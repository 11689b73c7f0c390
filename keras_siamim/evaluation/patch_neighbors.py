"""Exact nearest neighbors of many patches in bounded memory."""

from collections.abc import Callable

import keras
import numpy as np

# Candidates beyond the k nearest, so that few queries need the exact search over all rows.
_EXTRA = 8
# Bound of the error of float32 squared distances, relative to the squared sum of both lengths.
_MARGIN = 1e-5
_RESCORE_CHUNK = 128
# A bank of at most this many values is prepared once, 1 GiB in float64.
_PREPARED_VALUES = 2**27
# Rows are rounded to multiples of this number, so that rows that are equal but for rounding tie.
_RESOLUTION = 2.0**-20


def euclidean_rows(features: np.ndarray) -> np.ndarray:
    """Return rows whose Euclidean distances are compared, (rows, width) float64, rounded.

    Args:
        features: (rows, width) floats.

    Example:
        >>> euclidean_rows(np.array([[0.5, 2.0]]))
        array([[0.5, 2. ]])
    """
    return np.round(np.asarray(features, "float64") / _RESOLUTION) * _RESOLUTION


def cosine_rows(features: np.ndarray) -> np.ndarray:
    """Return rows of length 1 whose products are compared, (rows, width) float64, rounded.

    Args:
        features: (rows, width) floats. A row of zeros stays zeros.

    Example:
        >>> cosine_rows(np.array([[0.0, 4.0]]))
        array([[0., 1.]])
    """
    features = np.asarray(features, "float64")
    return euclidean_rows(features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12))


ROWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"cosine": cosine_rows, "l2": euclidean_rows}


def nearest_rows(
    queries: np.ndarray,
    bank: np.ndarray,
    k: int,
    metric: str = "l2",
    query_chunk: int = 2048,
    bank_chunk: int = 8192,
    verbose: int = 0,
) -> np.ndarray:
    """Find the `k` rows of `bank` that are nearest to each query; equal distances go to the lowest row index.

    Float32 products select candidates, whose distances are then computed in float64.

    Args:
        queries: (queries, width) floats.
        bank: (bank, width) floats.
        k: Integer in [1, bank]. Number of neighbors.
        metric: `"l2"` or `"cosine"`. Defaults to `"l2"`.
        query_chunk: Integer. Queries compared at a time. Defaults to 2048.
        bank_chunk: Integer. Rows of the bank compared at a time. Defaults to 8192.
        verbose: Integer. 1 shows a progress bar. Defaults to 0.

    Returns:
        (queries, k) int64 row indices, the nearest first.

    Raises:
        ValueError: If `k` or `metric` is not allowed.

    Example:
        >>> nearest_rows(np.array([[0.9]]), np.array([[0.0], [1.0], [1.0]]), k=2)
        array([[1, 2]])
    """
    if metric not in ROWS:
        raise ValueError(f"`metric` must be one of {', '.join(ROWS)}. Received: {metric!r}.")
    if not 1 <= k <= len(bank):
        raise ValueError(f"`k` must be in [1, {len(bank)}], the rows of `bank`. Received: {k}.")
    prepare = ROWS[metric]
    kept = min(k + _EXTRA, len(bank))
    starts = range(0, len(queries), query_chunk)
    shapes = [(len(queries[start : start + query_chunk]), kept) for start in starts]
    best = [(np.full(shape, np.inf, "float32"), np.zeros(shape, "int64")) for shape in shapes]
    bank_starts = range(0, len(bank), bank_chunk)
    progress = keras.utils.Progbar(len(bank_starts) * len(starts), verbose=verbose, unit_name="chunk")
    for bank_start in bank_starts:
        rows = prepare(bank[bank_start : bank_start + bank_chunk]).astype("float32")
        lengths = np.sum(rows**2, axis=1)
        for index, start in enumerate(starts):
            chunk = prepare(queries[start : start + query_chunk]).astype("float32")
            # The squared distance less the query's own squared length, or the cosine distance less a constant.
            distances = np.matmul(chunk * np.float32(-2), rows.T)
            if metric == "l2":
                distances += lengths
            best[index] = _merge(*best[index], distances, bank_start, kept)
            progress.add(1)
    prepare_bank = prepare
    if bank.size <= _PREPARED_VALUES:
        bank, prepare_bank = prepare(bank), _as_they_are
    found = [
        _rescore(queries[start : start + query_chunk], bank, *candidates, k, metric, prepare_bank)
        for start, candidates in zip(starts, best, strict=True)
    ]
    return np.concatenate(found) if found else np.zeros((0, k), "int64")


def _as_they_are(rows):
    return rows


def _merge(distances, ids, new, start, kept):
    """Return the `kept` smallest of the known and the new distances per row, and their ids."""
    count = min(kept, new.shape[1])
    if np.isinf(distances[:, -1]).any():
        columns = np.argpartition(new, count - 1, axis=1)[:, :count]
        rows = np.repeat(np.arange(len(new)), count)
        columns = columns.ravel()
    else:
        # After the first rows of the bank few new ones are near enough, so that no sort of all is needed.
        rows, columns = np.nonzero(new < distances[:, -1:])
    all_rows = np.concatenate([np.repeat(np.arange(len(ids)), kept), rows])
    all_distances = np.concatenate([distances.ravel(), new[rows, columns]])
    all_ids = np.concatenate([ids.ravel(), columns + start])
    order = np.lexsort((all_distances, all_rows))
    # Position of each entry among those of its row.
    begins = np.searchsorted(all_rows[order], np.arange(len(ids)))
    position = np.arange(len(order)) - begins[all_rows[order]]
    order = order[position < kept]
    return all_distances[order].reshape(-1, kept), all_ids[order].reshape(-1, kept)


def _rescore(queries, bank, approximate, ids, k, metric, prepare_bank):
    """Return the `k` nearest by float64 distances, from the complete bank where the candidates may not suffice."""
    nearest = np.empty((len(queries), k), "int64")
    prepare, unsure = ROWS[metric], []
    for start in range(0, len(queries), _RESCORE_CHUNK):
        part = slice(start, start + _RESCORE_CHUNK)
        chunk = prepare(queries[part])
        rows = prepare_bank(bank[ids[part].ravel()]).reshape(*ids[part].shape, -1)
        exact = _distances(rows, chunk[:, None], metric)
        order = np.lexsort((ids[part], exact), axis=1)[:, :k]
        nearest[part] = np.take_along_axis(ids[part], order, axis=1)
        if ids.shape[1] < len(bank):
            length = np.sum(chunk**2, axis=1)
            last = np.take_along_axis(exact, order[:, -1:], axis=1)[:, 0]
            margin = _MARGIN * (np.sqrt(length) + np.sqrt(np.maximum(last, 0))) ** 2
            offset = length if metric == "l2" else 2.0
            unsure.extend(start + np.flatnonzero(last + margin >= approximate[part, -1] + offset))
    if unsure:
        # Equal queries, such as patches of one color, share one search.
        distinct, inverse = np.unique(prepare(queries[unsure]), axis=0, return_inverse=True)
        searched = np.stack([_search(row, bank, k, metric, prepare_bank) for row in distinct])
        nearest[unsure] = searched[inverse.ravel()]
    return nearest


def _distances(rows, others, metric):
    """Return squared Euclidean distances, or twice the cosine distances of rows of length 1."""
    if metric == "cosine":
        return 2 - 2 * np.einsum("...w,...w->...", rows, others)
    rows = rows - others
    return np.einsum("...w,...w->...", rows, rows)


def _search(row, bank, k, metric, prepare, chunk=16_384):
    """Return the `k` nearest of all rows by float64 distances."""
    distances = np.concatenate(
        [_distances(prepare(bank[start : start + chunk]), row, metric) for start in range(0, len(bank), chunk)]
    )
    return np.argsort(distances, kind="stable")[:k]
