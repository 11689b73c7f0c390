"""Import time of `keras_siamim` compared with `keras`."""

import os
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.tables import table

BACKENDS = ("torch", "jax", "tensorflow")
IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def measure(rounds: int = 3) -> list[dict[str, Any]]:
    """Return the median seconds of both imports per backend, in fresh processes that alternate."""
    rows = []
    for backend in BACKENDS:
        seconds: dict[str, list[float]] = {"keras": [], "keras_siamim": []}
        for _ in range(rounds + 1):
            for name, all_seconds in seconds.items():
                all_seconds.append(_seconds(backend, name))
        # The first import of each is left out: it reads files that the later ones find in the file cache.
        rows.append({"backend": backend} | {name: statistics.median(values[1:]) for name, values in seconds.items()})
    return rows


def _seconds(backend, name):
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", IMPORT.format(name)]
    result = subprocess.run(
        command, env=environment, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return float(result.stdout)


def report(rows: list[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    lines = [
        (
            row["backend"],
            f"{row['keras']:.2f}",
            f"{row['keras_siamim']:.2f}",
            f"{row['keras_siamim'] / row['keras']:.2f}",
        )
        for row in rows
    ]
    return table(("backend", "`import keras`, s", "`import keras_siamim`, s", "ratio"), lines)
