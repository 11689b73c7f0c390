"""Exact nearest neighbors of many patches in bounded memory."""

from collections.abc import Callable

import keras
import numpy as np

# Candidates beyond the k nearest, so that few queries need the exact search over all rows.
_EXTRA = 8
# Bounds of the error of squared distances by matrix products, relative to the squared sum of both lengths.
_MARGINS = {"float32": 2e-6, "float64": 1e-13}
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

    Matrix products in float32, in float64 where these are not precise enough, select candidates. Their distances are
    then computed in float64.

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
    search = _Search(bank, k, metric, query_chunk, bank_chunk)
    nearest, unsure = search.nearest(queries, "float32", verbose)
    if len(unsure):
        nearest[unsure], still_unsure = search.nearest(queries[unsure], "float64", verbose)
        unsure = unsure[still_unsure]
    if len(unsure):
        # More rows tie than candidates were kept. Equal queries, such as patches of one color, share one search.
        distinct, inverse = np.unique(ROWS[metric](queries[unsure]), axis=0, return_inverse=True)
        nearest[unsure] = np.stack([search.complete(row) for row in distinct])[inverse.ravel()]
    return nearest


class _Search:
    """Search for the nearest rows of a bank: products select candidates, whose distances are then compared."""

    def __init__(self, bank, k, metric, query_chunk, bank_chunk):
        self.k, self.metric = k, metric
        self.query_chunk, self.bank_chunk = query_chunk, bank_chunk
        self.prepare = ROWS[metric]
        self.kept = min(k + _EXTRA, len(bank))
        self.bank, self.prepared = bank, bank.size <= _PREPARED_VALUES
        if self.prepared:
            self.bank = self.prepare(bank)

    def rows(self, chosen):
        """Return prepared rows of the bank."""
        return self.bank[chosen] if self.prepared else self.prepare(self.bank[chosen])

    def nearest(self, queries, dtype, verbose):
        """Return the nearest rows of each query, and the indices of the queries for which they may be others."""
        starts = range(0, len(queries), self.query_chunk)
        shapes = [(len(queries[start : start + self.query_chunk]), self.kept) for start in starts]
        best = [(np.full(shape, np.inf, dtype), np.zeros(shape, "int64")) for shape in shapes]
        bank_starts = range(0, len(self.bank), self.bank_chunk)
        progress = keras.utils.Progbar(len(bank_starts) * len(starts), verbose=verbose, unit_name="chunk")
        for bank_start in bank_starts:
            rows = self.rows(slice(bank_start, bank_start + self.bank_chunk)).astype(dtype)
            lengths = np.sum(rows**2, axis=1)
            for index, start in enumerate(starts):
                chunk = self.prepare(queries[start : start + self.query_chunk]).astype(dtype)
                # The squared distance less the query's own squared length, or the cosine distance less a constant.
                distances = np.matmul(-2 * chunk, rows.T)
                if self.metric == "l2":
                    distances += lengths
                best[index] = _merge(*best[index], distances, bank_start, self.kept)
                progress.add(1)
        nearest, unsure = np.zeros((len(queries), self.k), "int64"), []
        for start, (approximate, ids) in zip(starts, best, strict=True):
            for offset in range(0, len(ids), _RESCORE_CHUNK):
                part = slice(offset, offset + _RESCORE_CHUNK)
                chunk = self.prepare(queries[start : start + self.query_chunk][part])
                found = slice(start + offset, start + offset + len(chunk))
                nearest[found], doubtful = self._rescore(chunk, approximate[part, -1], ids[part], _MARGINS[dtype])
                unsure.append(start + offset + np.flatnonzero(doubtful))
        return nearest, np.concatenate(unsure) if unsure else np.zeros(0, "int64")

    def _rescore(self, queries, last_kept, ids, margin):
        """Return the nearest candidates by their distances, and whether a row that was not kept may be nearer."""
        rows = self.rows(ids.ravel()).reshape(*ids.shape, -1)
        exact = _distances(rows, queries[:, None], self.metric)
        order = np.lexsort((ids, exact), axis=1)[:, : self.k]
        last = np.take_along_axis(exact, order[:, -1:], axis=1)[:, 0]
        length = np.sum(queries**2, axis=1)
        bound = margin * (np.sqrt(length) + np.sqrt(np.maximum(last, 0))) ** 2
        offset = length if self.metric == "l2" else 2.0
        doubtful = (last + bound >= last_kept + offset) & (self.kept < len(self.bank))
        return np.take_along_axis(ids, order, axis=1), doubtful

    def complete(self, row):
        """Return the nearest of all rows to one prepared query."""
        starts = range(0, len(self.bank), self.bank_chunk)
        distances = [_distances(self.rows(slice(s, s + self.bank_chunk)), row, self.metric) for s in starts]
        return np.argsort(np.concatenate(distances), kind="stable")[: self.k]


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


def _distances(rows, others, metric):
    """Return squared Euclidean distances, or twice the cosine distances of rows of length 1."""
    if metric == "cosine":
        return 2 - 2 * np.einsum("...w,...w->...", rows, others)
    rows = rows - others
    return np.einsum("...w,...w->...", rows, rows)
