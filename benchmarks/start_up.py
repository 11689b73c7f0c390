"""How long one waits: `import keras_siamim` beside `import keras`, and the first step."""

import os
import statistics
import subprocess
import sys

from benchmarks.tables import table

BACKENDS = ("torch", "jax", "tensorflow")
IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def measure(rounds=3):
    """Median seconds of both imports per backend, in fresh processes that take turns."""
    rows = []
    for backend in BACKENDS:
        seconds = {"keras": [], "keras_siamim": []}
        for _ in range(rounds + 1):
            for name, all_seconds in seconds.items():
                all_seconds.append(_seconds(backend, name))
        # The first of each reads files that the others find in memory.
        rows.append({"backend": backend} | {name: statistics.median(values[1:]) for name, values in seconds.items()})
    return rows


def _seconds(backend, name):
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", IMPORT.format(name)]
    answer = subprocess.run(
        command, env=environment, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return float(answer.stdout)


def report(rows):
    """Markdown."""
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
