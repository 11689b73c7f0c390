"""Worker process with one model: `python -m benchmarks.step.worker PROGRAM OBJECTIVE SETTING`.

The worker reads commands from standard input, one per line: `build`, `steps N`, `matmul`, `memory`. It writes the
result of each as one line of JSON to standard output. Several workers can therefore alternate on one machine.
"""

import argparse
import json
import pathlib
import sys
import time
from typing import Any

import numpy as np

from benchmarks.step.settings import OBJECTIVES, SETTINGS, Setting, batch_of, model_of, plain_of

MATMULS = ((2048, 2048, 2048), (4480, 384, 1536), (4480, 1536, 384))


def resident(field: str = "VmRSS") -> float:
    """Return the resident memory of this process in MiB, or its peak with `VmHWM` (Linux)."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


class Worker:
    """Model with its batch.

    Args:
        program: str. `"plain"` for the PyTorch baseline, or a Keras backend.
        objective: str. Name of the objective.
        setting: `Setting`. Size of the model.
        dtype: str. Keras dtype policy.
        gradient_checkpointing: bool. True to use gradient checkpointing. Defaults to False.
    """

    def __init__(
        self, program: str, objective: str, setting: Setting, dtype: str, gradient_checkpointing: bool = False
    ) -> None:
        self.plain = program == "plain"
        self.objective, self.setting, self.dtype, self.gradient_checkpointing = (
            objective,
            setting,
            dtype,
            gradient_checkpointing,
        )
        if self.plain:
            import torch

            self.to_tensor = lambda x: torch.tensor(x, device="cuda" if torch.cuda.is_available() else "cpu")
            self.to_numpy = lambda x: x.cpu().numpy()
        else:
            import keras

            import keras_siamim  # noqa: F401

            self.to_tensor, self.to_numpy = keras.ops.convert_to_tensor, keras.ops.convert_to_numpy
        self.to_numpy(self.to_tensor(np.zeros(8, "float32")))  # initializes the framework
        self.before = resident()

    def build(self) -> dict[str, float]:
        """Build the model and run its first step."""
        start = time.perf_counter()
        batch = batch_of(self.objective, self.setting)
        if self.plain:
            import torch

            baseline = plain_of(self.setting)
            tensors = {name: self.to_tensor(array) for name, array in batch.items()}
            baseline.model.to(tensors["view_1"].device)
            dtype = torch.float32 if self.dtype == "float32" else torch.bfloat16
            self.step = lambda: baseline(tensors, dtype).item()
        else:
            model = model_of(self.objective, self.setting, self.dtype)
            model.gradient_checkpointing = self.gradient_checkpointing
            tensors = {name: self.to_tensor(array) for name, array in batch.items()}
            self.step = lambda: np.atleast_1d(model.train_on_batch(tensors))[0]
        built = time.perf_counter()
        self.steps(1)
        return {"build_seconds": built - start, "first_seconds": time.perf_counter() - built}

    def steps(self, count: str | int) -> dict[str, Any]:
        """Run `count` steps, read their losses and return the seconds of each."""
        seconds, processor_seconds = [], []
        for _ in range(int(count)):
            start, processor = time.perf_counter(), time.process_time()
            loss = float(self.step())
            seconds.append(time.perf_counter() - start)
            processor_seconds.append(time.process_time() - processor)
        return {"seconds": seconds, "processor_seconds": processor_seconds, "loss": loss}

    def matmul(self) -> dict[str, float]:
        """Return the GFLOP/s of the fastest plain float32 matrix product of this framework."""
        rng, best = np.random.default_rng(0), 0.0
        for rows, inner, columns in MATMULS:
            a = self.to_tensor(rng.random((rows, inner), "float32"))
            b = self.to_tensor(rng.random((inner, columns), "float32"))
            product = self._compiled_product()
            for _ in range(8):
                start = time.perf_counter()
                self.to_numpy(product(a, b)[0, 0])
                best = max(best, 2e-9 * rows * inner * columns / (time.perf_counter() - start))
        return {"gflops": best}

    def _compiled_product(self):
        if not self.plain:
            import keras

            if keras.backend.backend() == "jax":
                import jax

                return jax.jit(lambda a, b: a @ b)
        return lambda a, b: a @ b

    def memory(self) -> dict[str, float]:
        """Return the growth of the peak resident memory since before the model, in MiB."""
        return {"mebibytes": resident("VmHWM") - self.before}


def main() -> None:
    """Run commands until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("objective", choices=OBJECTIVES)
    parser.add_argument("setting", choices=SETTINGS)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    options = parser.parse_args()
    setting = SETTINGS[options.setting]
    if options.batch:
        setting = setting._replace(batch=options.batch)
    worker = Worker(options.program, options.objective, setting, options.dtype, options.gradient_checkpointing)
    for line in sys.stdin:
        command, *arguments = line.split()
        print(json.dumps(getattr(worker, command)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
