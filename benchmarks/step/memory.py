"""Peak memory of one training step at a large batch, one program after the other."""

from typing import Any

from benchmarks.step.run import NAMES, Process
from benchmarks.tables import table

PROGRAMS = (
    ("plain", False),
    ("torch", False),
    ("torch", True),
    ("tensorflow", False),
    ("tensorflow", True),
    ("jax", False),
    ("jax", True),
)


def measure(setting: str = "base16-224", batch: int = 64) -> list[dict[str, Any]]:
    """Return one row per program: gradient checkpointing, peak MiB above those before the model, seconds per step.

    The seconds are those of the second step. MiB and seconds are None for programs that ran out of memory.
    """
    rows = []
    for program, gradient_checkpointing in PROGRAMS:
        row = {"program": program, "gradient_checkpointing": gradient_checkpointing, "batch": batch, "setting": setting}
        options = ("--gradient-checkpointing",) if gradient_checkpointing else ()
        with Process(program, "SiameseIM", setting, batch=batch, options=options) as process:
            try:
                process("build")
                row["seconds"] = process("steps 1")["seconds"][0]
                row |= process("memory")
            except (RuntimeError, BrokenPipeError):  # killed by the operating system
                row |= {"seconds": None, "mebibytes": None}
        rows.append(row)
        print(_name(row), row["mebibytes"], "MiB", row["seconds"], "s", flush=True)
    return rows


def report(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    plain = rows[0]
    lines = [
        (
            _name(row),
            *(
                (f"{row['mebibytes']:.0f}", f"{row['mebibytes'] / plain['mebibytes']:.2f}", f"{row['seconds']:.1f}")
                if row["mebibytes"]
                else ("out of memory", "", "")
            ),
        )
        for row in rows
    ]
    title = f"SiameseIM, {plain['setting']}, batch {plain['batch']}, float32."
    return f"{title}\n\n{table(('program', 'peak MiB', 'relative to plain', 'seconds per step'), lines)}"


def _name(row):
    return NAMES[row["program"]] + (", checkpointing" if row["gradient_checkpointing"] else "")
