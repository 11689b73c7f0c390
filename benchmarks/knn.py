"""Time and peak memory of the exact k-NN search compared with scikit-learn's brute force.

    python -m benchmarks.knn [--train 50000] [--test 10000] [--width 384] [--k 20]

Each search runs in a separate process. Peak memory is the growth of the peak resident size during the search.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def make_features(images: int, width: int, seed: int) -> np.ndarray:
    """Return normally distributed features, `(images, width)` float32."""
    return np.random.default_rng(seed).standard_normal((images, width), dtype="float32")


def ours(bank: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Return the row indices of the nearest neighbors by `keras_siamim`."""
    from keras_siamim.evaluation.knn import nearest_neighbors

    return nearest_neighbors(queries, bank, k)[1]


def scikit_learn(bank: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Return the row indices of the nearest neighbors by scikit-learn's brute force."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(bank)
    return search.kneighbors(queries, return_distance=False)


def measure(search: Callable[..., np.ndarray], options: argparse.Namespace, results: Any) -> None:
    """Run one search in this process and put its name, seconds, MiB and neighbors into the queue `results`."""
    bank, queries = make_features(options.train, options.width, 0), make_features(options.test, options.width, 1)
    search(bank[:256], queries[:256], options.k)  # warm-up: imports and first-use costs are excluded
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    ids = search(bank, queries, options.k)
    seconds = time.perf_counter() - start
    mebibytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    results.put((search.__name__, seconds, mebibytes, ids))


def main() -> None:
    """Measure both searches; print a Markdown table and the share of equal neighbors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("train", 50_000), ("test", 10_000), ("width", 384), ("k", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    rows = []
    for search in (ours, scikit_learn):
        results = context.Queue()
        process = context.Process(target=measure, args=(search, options, results))
        process.start()
        rows.append(results.get())
        process.join()
    print(f"{options.train} x {options.test} features of width {options.width}, k = {options.k}\n")
    print("| search | seconds | peak memory above the features, MiB |\n|---|---|---|")
    for name, seconds, mebibytes, _ in rows:
        print(f"| {name} | {seconds:.2f} | {mebibytes:.0f} |")
    print(f"\nequal neighbors: {(rows[0][3] == rows[1][3]).mean():.6f}")


if __name__ == "__main__":
    main()
