"""Speed of the input pipeline: `python -m benchmarks.pipeline [--seconds 8] [--rounds 3] [--data PATH] [--sizes ...]`.

The benchmark measures the complete path from JPEG bytes to batches of normalized view pairs with geometry and masks. It
compares the pipeline with two baselines, which alternate with it in one run and have two worker processes each:

- torchvision's transforms in a PyTorch data loader (`torchvision_baseline.py`), if torchvision is installed;
- PIL and NumPy without further overhead (`pillow_baseline.py`).

Then it prints the processor time of every stage. Without `--data`, the images are crops of the two photographs that
come with scikit-learn. Run it on an idle machine.
"""

import argparse
import dataclasses
import importlib.util
import io
import itertools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from benchmarks.pipeline import pillow_baseline
from keras_siamim.data import batch_loading, error_handling, pipeline, sources
from keras_siamim.data.images import decoding
from keras_siamim.data.masking import Masking
from keras_siamim.data.sources import indexed
from keras_siamim.data.views.paired_views import PairedViews
from keras_siamim.data.views.recipe import ViewRecipe

# Name: (height, width) of the stored images, size of the views, patch size, images per batch.
SETTINGS = {
    "224": ((480, 640), 224, 16, 64),
    "64": ((64, 64), 64, 8, 256),
    "32": ((32, 32), 32, 4, 256),
}
# Upper bound of the batches that a pipeline has prefetched.
PREFETCHED = 6
# Seconds between turns, in which the other pipelines finish what they began.
PAUSE = 2
ONLY_CROPS = ViewRecipe.crop_and_flip(area=(0.08, 1.0))


def photographs(height: int, width: int, count: int = 256) -> list[bytes]:
    """Return JPEG files of one size: random crops of two photographs."""
    from sklearn.datasets import load_sample_images

    rng, files = np.random.default_rng(0), []
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    for k in range(count):
        share = rng.uniform(0.5, 1)
        w, h = int(640 * share), int(640 * share * height / width)
        w, h = (w, h) if h <= 427 else (int(427 * share * width / height), int(427 * share))
        left, top = rng.integers(0, 640 - w + 1), rng.integers(0, 427 - h + 1)
        buffer = io.BytesIO()
        photos[k % 2].crop((left, top, left + w, top + h)).resize((width, height)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def source_of(files: Sequence[bytes], shape: tuple[int, int]) -> sources.IndexedSource:
    """Return a source of files in memory, like those of `sources.cached`."""
    read = indexed.columns_of({"image": tf.constant(files)})
    return sources.IndexedSource("benchmark", len(files), read, image_shape=shape, reads_many=True)


def ours(
    source: sources.IndexedSource, size: int, patch: int, batch_size: int, views: PairedViews | None = None
) -> Iterator[dict[str, Any]]:
    """Return the infinite batches of this pipeline."""
    views = views or PairedViews(size)
    grid = (size // patch, size // patch)
    masking = Masking.of_ratio(grid, 0.6, min_block=max(2, grid[0] * grid[1] // 12))
    return iter(pipeline.training_batches(source, views, masking, batch_size=batch_size))


def rate(iterator: Iterator, batch_size: int, seconds: float) -> float:
    """Return pairs/s over at least `seconds` seconds."""
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        next(iterator)
        count += batch_size
    return count / elapsed


def cpu_milliseconds(pairs: int, *functions: Callable[[], Any], turns: int = 10) -> list[float]:
    """Return the minimum processor milliseconds per pair of each function, over all threads; functions alternate."""
    found: list[list[float]] = [[] for _ in functions]
    for _ in range(1 + turns):
        for function, times in zip(functions, found, strict=True):
            start = time.process_time()
            function()
            times.append(1e3 * (time.process_time() - start) / pairs)
    return [min(times) for times in found]


def stages(files: Sequence[bytes], shape: tuple[int, int], size: int, patch: int, batch_size: int) -> dict[str, float]:
    """Return the processor milliseconds per pair of every stage, on the same images."""
    equal = shape[0] * shape[1] <= batch_loading.EQUAL_SIZE_LIMIT
    few = files[: batch_size if equal else 64]
    count = len(few)
    index = tf.range(count, dtype=tf.int64)
    views = PairedViews(size)
    each = tf.function(lambda encoded: tf.map_fn(decoding.decode, encoded, fn_output_signature=tf.uint8))
    decode = tf.function(lambda encoded: decoding.decode_equal(encoded, shape)) if equal else each
    pixels = decode(tf.constant(few))
    draw = tf.function(lambda: views.draw(index, 0, tf.fill([count], shape[0]), tf.fill([count], shape[1])))
    boxes, samples = draw()
    cut = tf.function(lambda: tf.map_fn(lambda pair: views.cut(*pair), (pixels, boxes), fn_output_signature=tf.uint8))
    cropped = cut() if not equal else None
    masking = Masking.of_ratio((size // patch,) * 2, 0.6, min_block=max(2, (size // patch) ** 2 // 12))

    def render(view_1, view_2):
        layer = PairedViews(size, view_1, view_2)
        if equal:
            return lambda: [view.numpy() for view in layer.cut_and_color(pixels, boxes, samples)]
        color = tf.function(layer.color)
        return lambda: [view.numpy() for view in color(cropped, samples)]

    blurring = [dataclasses.replace(ONLY_CROPS, blur_probability=view.blur_probability) for view in views.recipes]
    plain, blurred, complete = cpu_milliseconds(
        count, render(ONLY_CROPS, ONLY_CROPS), render(*blurring), render(views.view_1, views.view_2)
    )
    many = np.arange(batch_size)
    (masks,) = cpu_milliseconds(batch_size, lambda: masking.visible_ids(0, 0, many))
    decode_time, draw_time, crop_time = cpu_milliseconds(
        count, lambda: decode(tf.constant(few)), draw, (lambda: None) if equal else cut
    )
    return {
        "decode": decode_time,
        "draw": draw_time,
        "crop + resize": crop_time + plain,
        "color": complete - blurred,
        "blur": blurred - plain,
        "masks": masks,
    }


def megabytes(pid: str | int | None = "self") -> float:
    """Return the peak resident memory of a process (Linux)."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="duration of every measurement")
    parser.add_argument("--rounds", type=int, default=3, help="turns per pipeline; the median is reported")
    parser.add_argument("--sizes", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--data", help="data set in place of the photographs; images are resized to each setting")
    options = parser.parse_args(arguments)
    chosen = {name: SETTINGS[name] for name in options.sizes}
    stored = {
        name: from_source(options.data, *shape) if options.data else photographs(*shape)
        for name, (shape, *_) in chosen.items()
    }
    print("pairs/s (peak memory of one process), and speedup of this pipeline over the baselines")
    for name, setting in chosen.items():
        own, others = take_turns(stored[name], *setting, options.rounds, options.seconds)
        print(f"{name:>4} this pipeline {own:.0f} ({megabytes():.0f} MB)", end="")
        for baseline, (found, memory) in others.items():
            print(f"; {baseline} {found:.0f} ({memory:.0f} MB) {own / found:.1f}x", end="")
        print(flush=True)
    print("processor milliseconds per pair and stage")
    for name, setting in chosen.items():
        parts = stages(stored[name], *setting)
        print(f"{name:>4} " + ", ".join(f"{stage} {value:.3f}" for stage, value in parts.items()), flush=True)


def take_turns(
    files: Sequence[bytes],
    shape: tuple[int, int],
    size: int,
    patch: int,
    batch_size: int,
    rounds: int,
    seconds: float,
) -> tuple[float, dict[str, tuple[float, float]]]:
    """Measure all pipelines in turns.

    Returns:
        Median pairs/s of this pipeline; and for every baseline, its median pairs/s and the peak MB of one worker.
    """
    own = ours(source_of(files, shape), size, patch, batch_size)
    iterators: dict[str, Any] = {"": own}
    workers = {}
    for name, baseline in baselines().items():
        others = set(multiprocessing.active_children())
        iterators[name] = baseline.batches(files, size, batch_size)
        next(iterators[name])
        workers[name] = set(multiprocessing.active_children()) - others
    rates: dict[str, list[float]] = {name: [] for name in iterators}
    for _ in range(rounds):
        for name, iterator in iterators.items():
            # Other pipelines become idle and prefetched batches are skipped before the clock starts.
            time.sleep(PAUSE)
            list(itertools.islice(iterator, PREFETCHED))
            rates[name].append(rate(iterator, batch_size, seconds))
    memory = {name: max(megabytes(worker.pid) for worker in own_workers) for name, own_workers in workers.items()}
    for name in memory:
        iterators[name].close()
    median = {name: statistics.median(found) for name, found in rates.items()}
    return median[""], {name: (median[name], memory[name]) for name in memory}


def baselines() -> dict[str, ModuleType]:
    """Return the baselines that are installed."""
    found = {"PIL": pillow_baseline}
    if importlib.util.find_spec("torchvision"):
        from benchmarks.pipeline import torchvision_baseline

        found["torchvision"] = torchvision_baseline
    return found


def from_source(data: str, height: int, width: int, count: int = 256) -> list[bytes]:
    """Return JPEG files of one size from a data set."""
    files = []
    examples = sources.open_source(data).examples(0, 0, shuffle=True).map(error_handling.decoded)
    for example in examples.take(count).as_numpy_iterator():
        buffer = io.BytesIO()
        Image.fromarray(example["image"]).resize((width, height)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


if __name__ == "__main__":
    main()
