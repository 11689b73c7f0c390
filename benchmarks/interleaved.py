"""Programs that run the same work in separate processes and alternate, so that a noisy machine treats them alike."""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

PROGRAMS = ("plain", "torch", "jax", "tensorflow")
NAMES = {"plain": "plain PyTorch", "torch": "ours, PyTorch", "jax": "ours, JAX", "tensorflow": "ours, TensorFlow"}


def serve(make_step: Callable[[], Callable[[], float]]) -> None:
    """Serve commands from standard input, one per line: `build`, or the number of steps to run.

    Each result is one line of JSON: `seconds` of each step, the last `loss`, and the `peak` memory in MiB.

    Args:
        make_step: Function that builds a model and returns a function that runs one step and returns its loss.
    """
    step: Callable[[], float] | None = None
    for line in sys.stdin:
        count = 1 if step is None else int(line)
        step = step or make_step()
        seconds = []
        loss = 0.0
        for _ in range(count):
            start = time.perf_counter()
            loss = step()
            seconds.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "loss": loss, "peak": peak}), flush=True)


def compare(
    module: str,
    arguments: Sequence[str] = (),
    rounds: int = 5,
    steps: int = 2,
    programs: Sequence[str] = PROGRAMS,
    pythons: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, dict[str, Any]]:
    """Run the steps of several programs in turn, and return their times.

    Args:
        module: String. Module that calls `serve` for `--worker PROGRAM`.
        arguments: Sequence of strings. Further arguments of the module.
        rounds: Integer. Turns of each program.
        steps: Integer. Steps per turn.
        programs: Strings, some of `PROGRAMS`, or `BACKEND:NAME` for several programs of one backend.
        pythons: Mapping from programs to the Python that runs them. Defaults to that of this process.

    Returns:
        Dictionary from each program to `median` (seconds per step), `first` (seconds of building and the first step),
        `loss` and `peak` (MiB).
    """
    workers, found = {}, {}
    try:
        for program in programs:
            backend = "torch" if program == "plain" else program.partition(":")[0]
            workers[program] = subprocess.Popen(
                [pythons.get(program, sys.executable), "-m", module, "--worker", program, *arguments],
                env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            start = time.perf_counter()
            answer = _ask(workers[program], "build")
            found[program] = {"seconds": [], "first": time.perf_counter() - start, "loss": answer["loss"]}
        for _ in range(rounds):
            for program, worker in workers.items():
                answer = _ask(worker, str(steps))
                found[program]["seconds"] += answer["seconds"]
                found[program]["peak"] = answer["peak"]
    finally:
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
    return {name: {**row, "median": statistics.median(row["seconds"])} for name, row in found.items()}


def run_step_benchmark(
    module: str,
    description: str,
    sizes: Mapping[str, int],
    make_step: Callable[[str, argparse.Namespace], Callable[[], float]],
) -> None:
    """Run the command of a benchmark: compare the training steps of all programs, and print a Markdown table.

    Args:
        module: String. Module of the benchmark, which calls this function.
        description: String. What the benchmark measures.
        sizes: Mapping from the names of the sizes to their defaults. Each is an option.
        make_step: Function of a program of `PROGRAMS` and the parsed options, which builds a model and returns a
            function that runs one step and returns its loss.
    """
    parser = argparse.ArgumentParser(description=description)
    for name, default in sizes.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plain-python", default=sys.executable, help="Python of the baseline")
    parser.add_argument("--worker", metavar="PROGRAM", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(lambda: make_step(options.worker, options))
        return
    arguments = [text for name in sizes for text in (f"--{name.replace('_', '-')}", str(getattr(options, name)))]
    print(", ".join(f"{name} {getattr(options, name)}" for name in sizes), "\n")
    print(table_of(compare(module, arguments, options.rounds, pythons={"plain": options.plain_python})))


def _ask(worker: Any, command: str) -> dict[str, Any]:
    worker.stdin.write(f"{command}\n")
    worker.stdin.flush()
    for line in worker.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise RuntimeError(f"{' '.join(worker.args)} ended with status {worker.wait()}.")


def table_of(rows: dict[str, dict[str, Any]]) -> str:
    """Return the rows of `compare` as a Markdown table, with speeds relative to plain PyTorch."""
    lines = ["| program | ms per step | speed relative to plain | peak MiB | first step, s |", "|---|---|---|---|---|"]
    for name, row in rows.items():
        speed = f"{rows['plain']['median'] / row['median']:.2f}" if "plain" in rows else ""
        cells = f"{1e3 * row['median']:.0f} | {speed} | {row['peak']:.0f} | {row['first']:.0f}"
        lines.append(f"| {NAMES[name]} | {cells} |")
    return "\n".join(lines)
