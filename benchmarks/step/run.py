"""Training steps of all programs, alternating."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import flops
from benchmarks.step.settings import SETTINGS
from benchmarks.tables import table

PROGRAMS = ("plain", "torch", "jax", "tensorflow")
NAMES = {"plain": "plain PyTorch", "torch": "ours, PyTorch", "jax": "ours, JAX", "tensorflow": "ours, TensorFlow"}
SHORT = (("SiameseIM", "tiny4-32"), ("SiameseIM", "small16-112"))
NORMAL = (
    *(("SiameseIM", name) for name in SETTINGS),
    ("MAE", "small16-112"),
    ("MoCoV3", "small16-112"),
)
FULL = tuple((objective, name) for name in SETTINGS for objective in ("SiameseIM", "MAE", "MoCoV3"))


class Process:
    """Process of `worker.py`; a call sends a command and returns the result.

    Args:
        program: str. Key of `NAMES`.
        objective: str. Name of the objective.
        setting: str. Name in `SETTINGS`.
        dtype: str. Keras dtype policy. Defaults to "float32".
        batch: int or None. Images per step. Defaults to those of the setting.
        options: Sequence of str. Further arguments of the worker. Defaults to none.
    """

    def __init__(
        self,
        program: str,
        objective: str,
        setting: str,
        dtype: str = "float32",
        batch: int | None = None,
        options: Sequence[str] = (),
    ) -> None:
        environment = {
            **os.environ,
            "KERAS_BACKEND": "torch" if program == "plain" else program,
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        command = [sys.executable, "-m", "benchmarks.step.worker", program, objective, setting, "--dtype", dtype]
        command += [*(["--batch", str(batch)] if batch else []), *options]
        self.process: Any = subprocess.Popen(
            command,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __call__(self, command: str) -> dict[str, Any]:
        """Send a command and wait for its result."""
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"{' '.join(self.process.args)} ended with status {self.process.wait()}.")

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait()


def group(objective: str, name: str, rounds: int = 3, steps: int = 3, dtype: str = "float32") -> list[dict[str, Any]]:
    """Return the rows of one objective and setting; all programs are in memory and alternate every few steps."""
    programs = [program for program in PROGRAMS if objective == "SiameseIM" or program != "plain"]
    setting = SETTINGS[name]
    rows: dict[str, dict[str, Any]] = {}
    processes: dict[str, Process] = {}
    work = flops.of_step(objective, setting)
    try:
        for program in programs:
            processes[program] = Process(program, objective, name, dtype)
            rows[program] = {"objective": objective, "setting": name, "program": program, "dtype": dtype}
            rows[program] |= processes[program]("build") | {"seconds": [], "matmul": 0.0}
        for _ in range(rounds):
            for program, process in processes.items():
                rows[program]["seconds"] += process(f"steps {steps}")["seconds"]
                rows[program]["matmul"] = max(rows[program]["matmul"], process("matmul")["gflops"])
        for program, process in processes.items():
            rows[program]["mebibytes"] = process("memory")["mebibytes"]
    finally:
        for process in processes.values():
            process.__exit__()
    for row in rows.values():
        row["median"] = statistics.median(row["seconds"])
        row["images_per_second"] = setting.batch / row["median"]
        row["compile_seconds"] = max(0.0, row["first_seconds"] - row["median"])
        row["step_gflop"] = work / 1e9
    return list(rows.values())


def measure(mode: str = "normal", rounds: int = 3, dtype: str = "float32") -> list[dict[str, Any]]:
    """Return the rows of all groups of a mode: `"short"`, `"normal"` or `"full"`."""
    rows = []
    for objective, name in {"short": SHORT, "normal": NORMAL, "full": FULL}[mode]:
        few = mode == "short" or objective != "SiameseIM" or SETTINGS[name].size == "base"
        rows += group(objective, name, 2 if few else rounds, steps=2, dtype=dtype)
        print("\n".join(text_of(row) for row in rows[-4:] if row["setting"] == name), flush=True)
    return rows


def text_of(row: dict[str, Any]) -> str:
    """Return one row as a line of progress output."""
    return f"{row['objective']} {row['setting']} {row['program']}: {1e3 * row['median']:.0f} ms"


def limit(rows: list[dict[str, Any]]) -> float:
    """Return the GFLOP/s of the fastest plain matrix product of all frameworks in this run."""
    return max(row["matmul"] for row in rows)


def report(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    best, lines = limit(rows), []
    plain = {row["setting"]: row["median"] for row in rows if row["program"] == "plain"}
    for row in rows:
        speed = row["step_gflop"] / row["median"]
        speedup = plain[row["setting"]] / row["median"] if row["objective"] == "SiameseIM" else None
        lines.append(
            (
                row["objective"],
                f"{row['setting']}, batch {SETTINGS[row['setting']].batch}",
                NAMES[row["program"]],
                f"{1e3 * row['median']:.0f}",
                f"{row['images_per_second']:.1f}",
                "" if speedup is None else f"{speedup:.2f}",
                f"{row['step_gflop']:.0f}",
                f"{speed:.0f}",
                f"{100 * speed / best:.0f} %",
                f"{row['mebibytes']:.0f}",
                f"{row['compile_seconds']:.0f}",
            )
        )
    columns = (
        *("objective", "setting", "program", "ms", "images/s", "speedup over plain", "GFLOP per step", "GFLOP/s"),
        *("share of limit", "peak MiB", "first-step overhead, s"),
    )
    matmuls = ", ".join(
        f"{NAMES[program]} {max(row['matmul'] for row in rows if row['program'] == program):.0f}"
        for program in PROGRAMS
        if any(row["program"] == program for row in rows)
    )
    return (
        f"{table(columns, lines)}\n\nFastest plain float32 matrix product, GFLOP/s: {matmuls}. The limit is {best:.0f}."
    )
