"""Run the test suite on TensorFlow, JAX and PyTorch.

python -m tests.run_all_backends [--backends jax,torch] [--workers 2] [pytest arguments]

Every worker runs the backends one after another and takes test files from a shared list. When no files of a backend are
left, a worker continues with the next backend and does not wait for the others.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

# The slowest comes first.
BACKENDS = ("jax", "tensorflow", "torch")
# On JAX a process uses up to 7 GB of memory, and more processes would have too few files to share.
MOST_WORKERS = 4
NO_TESTS = 5  # pytest's exit status


def environment(backend, folder):
    """Return the environment variables for the processes of one backend."""
    claims = folder / backend
    shared = folder / "shared"
    for new in (claims, shared):
        new.mkdir(exist_ok=True)
    common = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    common |= {"TEST_CLAIMS": str(claims), "TEST_SHARED": str(shared)}
    # All cores have processes of their own: threads of PyTorch would only wait for each other.
    common["OMP_NUM_THREADS"] = "1"
    # Programs that tests start compile no module of the package again.
    common["PYTHONDONTWRITEBYTECODE"] = ""
    # Compilation takes most of the time: skip expensive optimizations.
    if backend == "tensorflow":
        common["XLA_FLAGS"] = (
            "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
            "--xla_cpu_use_fusion_emitters=false"
        )
    if backend == "jax":
        # Compile each program once.
        common |= {
            "XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false",  # halves the time of compilation
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "jax_programs"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    return {**os.environ, **common}


def run(backends, workers, arguments, folder):
    """Run pytest in parallel processes and print the output of each when it ends.

    Returns:
        Tuple of the backends with failed tests, and the counts of tests by outcome.
    """
    failed, stopped, printing = set(), threading.Event(), threading.Lock()
    command = [sys.executable, "-m", "pytest", "-p", "tests.shared_files", *arguments]

    def work(number):
        for backend in backends:
            if stopped.is_set():
                return
            start = time.monotonic()
            done = subprocess.run(
                command,
                env=environment(backend, folder),
                check=False,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            with printing:
                print(f"\n=== {backend}, worker {number}, {time.monotonic() - start:.0f} s ===")
                print(done.stdout, flush=True)
            if done.returncode not in (0, NO_TESTS):
                failed.add(backend)

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        try:
            for future in [pool.submit(work, number) for number in range(1, workers + 1)]:
                future.result()
        finally:
            stopped.set()
    counts = collections.Counter()
    for path in folder.glob("*/*.json"):
        counts.update(json.loads(path.read_text()))
    return failed, counts


def main():
    """Run the suite and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default=",".join(BACKENDS), help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count(), MOST_WORKERS), help="default: %(default)s")
    options, arguments = parser.parse_known_args()
    backends = options.backends.split(",")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        failed, counts = run(backends, options.workers, arguments, pathlib.Path(folder))
    print(f"{time.monotonic() - start:.0f} s, failed on: {', '.join(sorted(failed)) or 'none'}")
    print(f"{counts['passed']} passed, {counts['failed'] + counts['error']} failed, {counts['skipped']} skipped")
    return int(bool(failed) or not counts["passed"])


if __name__ == "__main__":
    sys.exit(main())
