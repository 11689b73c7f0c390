"""Steps of all programs, taking turns."""

import json
import os
import statistics
import subprocess
import sys

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
    """A worker, see `worker.py`; called with a command, it gives the answer."""

    def __init__(self, program, objective, setting, dtype="float32", batch=None, options=()):
        environment = {
            **os.environ,
            "KERAS_BACKEND": "torch" if program == "plain" else program,
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        command = [sys.executable, "-m", "benchmarks.step.worker", program, objective, setting, "--dtype", dtype]
        command += [*(["--batch", str(batch)] if batch else []), *options]
        self.process = subprocess.Popen(
            command,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __call__(self, command):
        """Send a command, wait for its answer."""
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"{' '.join(self.process.args)} ended with status {self.process.wait()}.")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def group(objective, name, rounds=3, steps=3, dtype="float32"):
    """Rows of one objective and setting: all programs in memory at once, a few steps each in turn."""
    programs = [program for program in PROGRAMS if objective == "SiameseIM" or program != "plain"]
    setting, rows, processes = SETTINGS[name], {}, {}
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


def measure(mode="normal", rounds=3, dtype="float32"):
    """Rows of all groups of a mode: `"short"`, `"normal"` or `"full"`."""
    rows = []
    for objective, name in {"short": SHORT, "normal": NORMAL, "full": FULL}[mode]:
        rows += group(objective, name, 2 if mode == "short" else rounds, steps=2, dtype=dtype)
        print("\n".join(text_of(row) for row in rows[-4:] if row["setting"] == name), flush=True)
    return rows


def text_of(row):
    """One row for the impatient."""
    return f"{row['objective']} {row['setting']} {row['program']}: {1e3 * row['median']:.0f} ms"


def limit(rows):
    """GFLOP/s of the fastest plain matrix product that any framework showed in this run."""
    return max(row["matmul"] for row in rows)


def report(rows):
    """Markdown."""
    best, lines = limit(rows), []
    plain = {row["setting"]: row["median"] for row in rows if row["program"] == "plain"}
    for row in rows:
        speed = row["step_gflop"] / row["median"]
        faster = plain[row["setting"]] / row["median"] if row["objective"] == "SiameseIM" else None
        lines.append(
            (
                row["objective"],
                f"{row['setting']}, batch {SETTINGS[row['setting']].batch}",
                NAMES[row["program"]],
                f"{1e3 * row['median']:.0f}",
                f"{row['images_per_second']:.1f}",
                "" if faster is None else f"{faster:.2f}",
                f"{row['step_gflop']:.0f}",
                f"{speed:.0f}",
                f"{100 * speed / best:.0f} %",
                f"{row['mebibytes']:.0f}",
                f"{row['compile_seconds']:.0f}",
            )
        )
    columns = ("objective", "setting", "program", "ms", "images/s", "times plain", "GFLOP a step", "GFLOP/s")
    columns += ("of the limit", "peak MiB", "first step's extra s")
    matmuls = ", ".join(
        f"{NAMES[program]} {max(row['matmul'] for row in rows if row['program'] == program):.0f}"
        for program in PROGRAMS
        if any(row["program"] == program for row in rows)
    )
    return (
        f"{table(columns, lines)}\n\nFastest plain float32 matrix product, GFLOP/s: {matmuls}. The limit is {best:.0f}."
    )
