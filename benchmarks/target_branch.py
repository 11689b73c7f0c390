"""Time and memory of a SiameseIM training step with cheaper target branches.

    python -m benchmarks.target_branch [--preset vit_tiny_patch16_224] [--batch 16] [--steps 5]

Each setting runs in a separate process on random images and prints one row: tokens of the decoder and of the target
branch, median seconds per step without compilation, and the growth of the peak resident memory since the first step.
The memory of an accelerator is not included; use its own counters.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import threading
import time
from typing import Any

SETTINGS: dict[str, dict[str, Any]] = {
    "complete view 2": {},
    "half the side": {"target_image_size": 0.5},
    "half the patches predicted": {"target_keep_ratio": 0.5},
    "half the patches predicted, encoded": {"target_keep_ratio": 0.5, "prediction_target": "kept_features"},
    "half the side, half the patches": {"target_image_size": 0.5, "target_keep_ratio": 0.5},
}


def main() -> None:
    """Run every setting, or the one named by `--only`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="vit_tiny_patch16_224")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--only", choices=SETTINGS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options)))
        return
    print(f"{'setting':<32} {'decoder':>8} {'target':>7} {'s/step':>8} {'MiB':>7}")
    for name in SETTINGS:
        command = [sys.executable, "-m", "benchmarks.target_branch", *sys.argv[1:], "--only", name]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        row = json.loads(result.stdout.splitlines()[-1])
        print(f"{name:<32} {row['decoder']:>8} {row['target']:>7} {row['seconds']:>8.3f} {row['mebibytes']:>7.0f}")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return tokens, seconds per step and memory of one setting."""
    import keras
    import numpy as np

    from keras_siamim import AdamW, SiameseIMAblation, ViTEncoder

    encoder = ViTEncoder.from_preset(options.preset)
    settings = dict(SETTINGS[options.only])
    if "target_image_size" in settings:
        settings["target_image_size"] = [int(side * settings["target_image_size"]) for side in encoder.image_size]
    heads = encoder.num_heads
    sizes = {"decoder_width": encoder.width, "decoder_heads": heads}
    model = SiameseIMAblation(encoder, **sizes, target_momentum=0.99, **settings)
    model.compile(AdamW(1e-4, global_clipnorm=1.0))
    rng = np.random.default_rng(0)
    views = rng.normal(size=(2, options.batch, *encoder.image_shape)).astype("float32")
    patches = encoder.grid[0] * encoder.grid[1]
    visible = patches - round(0.6 * patches)
    batch = {
        "view_1": views[0],
        "view_2": views[1],
        "relative_affine": np.tile(np.array([0.1, 0.1, 0.8, 0.8], "float32"), (options.batch, 1)),
        "visible_ids": np.tile(np.arange(visible, dtype="int32"), (options.batch, 1)),
    }
    view, _, ids = model.select_target(batch, training=True)
    grid = model.encoder.grid_of(view.shape)
    queries = grid[0] * grid[1] if ids is None else ids.shape[1]
    target_patches = queries if settings.get("prediction_target") == "kept_features" else grid[0] * grid[1]

    seconds = []
    with PeakMemory() as memory:
        for _ in range(1 + options.steps):
            start = time.perf_counter()
            keras.ops.convert_to_numpy(model.train_on_batch(batch))
            seconds.append(time.perf_counter() - start)
    return {
        "decoder": 1 + visible + queries,
        "target": 1 + target_patches,
        "seconds": float(np.median(seconds[1:])),
        "mebibytes": memory.growth,
    }


class PeakMemory:
    """Context manager that records the growth of this process's resident memory in MiB (Linux)."""

    def __enter__(self) -> "PeakMemory":
        self.start, self.growth, self.running = self._resident(), 0.0, True
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.running = False
        self.thread.join()

    def _watch(self):
        while self.running:
            self.growth = max(self.growth, self._resident() - self.start)
            time.sleep(0.005)

    @staticmethod
    def _resident():
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


if __name__ == "__main__":
    main()
