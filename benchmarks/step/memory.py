"""Peak memory of one step at a batch that fills it, one program after the other."""

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


def measure(setting="base16-224", batch=64):
    """Rows: program, whether it recomputes activations, MiB beyond what the process held before the model, seconds.

    The seconds are those of the second step; a program that the machine has not enough memory for has neither.
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
            except (RuntimeError, BrokenPipeError):  # ended by the system
                row |= {"seconds": None, "mebibytes": None}
        rows.append(row)
        print(_name(row), row["mebibytes"], "MiB", row["seconds"], "s", flush=True)
    return rows


def report(rows):
    """Markdown."""
    plain = rows[0]
    lines = [
        (
            _name(row),
            *(
                (f"{row['mebibytes']:.0f}", f"{row['mebibytes'] / plain['mebibytes']:.2f}", f"{row['seconds']:.1f}")
                if row["mebibytes"]
                else ("more than there is", "", "")
            ),
        )
        for row in rows
    ]
    title = f"SiameseIM, {plain['setting']}, batch {plain['batch']}, float32."
    return f"{title}\n\n{table(('program', 'peak MiB', 'times plain', 'seconds a step'), lines)}"


def _name(row):
    return NAMES[row["program"]] + (", recomputing" if row["gradient_checkpointing"] else "")
