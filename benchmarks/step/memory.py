"""Peak memory of one step at a batch that fills it, one program after the other."""

from benchmarks.step.run import NAMES, Process
from benchmarks.tables import table

VARIANTS = (
    ("plain", ()),
    ("torch", ()),
    ("torch", ("--recompute",)),
    ("jax", ()),
    ("jax", ("--recompute",)),
    ("tensorflow", ()),
    ("tensorflow", ("--recompute",)),
)


def measure(setting="base16-224", batch=64):
    """Rows: program, options, MiB beyond what the process held before the model, seconds of the second step."""
    rows = []
    for program, options in VARIANTS:
        with Process(program, "SiameseIM", setting, batch=batch, options=options) as process:
            process("build")
            seconds = process("steps 1")["seconds"][0]
            rows.append({"program": program, "options": " ".join(options), "seconds": seconds, "batch": batch})
            rows[-1] |= process("memory") | {"setting": setting}
        print(f"{program} {' '.join(options)}: {rows[-1]['mebibytes']:.0f} MiB, {seconds:.1f} s", flush=True)
    return rows


def report(rows):
    """Markdown."""
    plain = next(row for row in rows if row["program"] == "plain")
    lines = [
        (
            NAMES[row["program"]] + (", recomputing" if row["options"] else ""),
            f"{row['mebibytes']:.0f}",
            f"{row['mebibytes'] / plain['mebibytes']:.2f}",
            f"{row['seconds']:.1f}",
        )
        for row in rows
    ]
    title = f"SiameseIM, {plain['setting']}, batch {plain['batch']}, float32."
    return f"{title}\n\n{table(('program', 'peak MiB', 'times plain', 'seconds a step'), lines)}"
