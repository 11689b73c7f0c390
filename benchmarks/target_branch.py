"""What a cheaper target branch saves: time and memory of a training step of SiameseIM.

    python -m benchmarks.target_branch [--preset vit_tiny_patch16_224] [--batch 16] [--steps 5]

Each setting runs in a process of its own, on random images, and prints a row: tokens that the decoder and the target
branch see, seconds a step (the median, compilation left out), and the memory that the process needed at most beyond
what it held before the first step. On a CPU this is resident memory; on an accelerator look at its own counters.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import threading
import time

SETTINGS = {
    "whole view 2": {},
    "half the side": {"target_image_size": 0.5},
    "half the patches asked": {"target_keep_ratio": 0.5},
    "half the patches asked and seen": {"target_keep_ratio": 0.5, "prediction_target": "kept_features"},
    "half the side, half the patches": {"target_image_size": 0.5, "target_keep_ratio": 0.5},
}


def main():
    """Run every setting; or one, with its name in `--only`."""
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


def measure(options):
    """Tokens, seconds a step and memory of one setting."""
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
    grid = model.encoder.patch_embedding.grid(view.shape)
    asked = grid[0] * grid[1] if ids is None else ids.shape[1]
    seen = asked if settings.get("prediction_target") == "kept_features" else grid[0] * grid[1]

    seconds = []
    with PeakMemory() as memory:
        for _ in range(1 + options.steps):
            start = time.perf_counter()
            keras.ops.convert_to_numpy(model.train_on_batch(batch))
            seconds.append(time.perf_counter() - start)
    return {
        "decoder": 1 + visible + asked,
        "target": 1 + seen,
        "seconds": float(np.median(seconds[1:])),
        "mebibytes": memory.grown,
    }


class PeakMemory:
    """Context that watches this process's resident memory, in MiB beyond what it held at the start (Linux)."""

    def __enter__(self):
        self.start, self.grown, self.running = self._resident(), 0.0, True
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.running = False
        self.thread.join()

    def _watch(self):
        while self.running:
            self.grown = max(self.grown, self._resident() - self.start)
            time.sleep(0.005)

    @staticmethod
    def _resident():
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


if __name__ == "__main__":
    main()
