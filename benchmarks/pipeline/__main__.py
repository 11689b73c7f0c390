"""How fast view pairs come: `python -m benchmarks.pipeline [--seconds 8] [--rounds 3] [--data PATH] [--sizes ...]`.

The whole way from JPEG bytes to batches of normalized pairs with geometry and masks, taking turns in one run with two
rivals of two worker processes each: torchvision's transforms in a PyTorch data loader (`torchvision_road.py`, if
torchvision is installed), and PIL and NumPy with nothing that costs time around them (`pillow_road.py`). Then where the
time goes. Without `--data` the images are cuts of the two photographs that come with scikit-learn. Run it on an idle
machine.
"""

import argparse
import dataclasses
import importlib.util
import io
import itertools
import multiprocessing
import statistics
import time

import numpy as np
import tensorflow as tf
from PIL import Image

from benchmarks.pipeline import pillow_road
from keras_siamim.data import batch_loading, error_handling, pipeline, sources
from keras_siamim.data.images import decoding
from keras_siamim.data.masking import Masking
from keras_siamim.data.sources import indexed
from keras_siamim.data.views.paired_views import PairedViews
from keras_siamim.data.views.recipe import ViewRecipe

# Name: height and width of the stored images, pixels of the views, patch size, images a batch.
SETTINGS = {
    "224": ((480, 640), 224, 16, 64),
    "64": ((64, 64), 64, 8, 256),
    "32": ((32, 32), 32, 4, 256),
}
# Batches that a road may have made ahead.
READY = 6
# Seconds of rest between turns.
REST = 2
ONLY_CROPS = ViewRecipe.crop_and_flip(area=(0.08, 1.0))


def photographs(height, width, count=256):
    """JPEG files of one size: random cuts of two photographs."""
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


def source_of(files, shape):
    """A source of files that lie in memory, as `sources.cached` makes them."""
    read = indexed.columns_of({"image": tf.constant(files)})
    return sources.IndexedSource("benchmark", len(files), read, image_shape=shape, reads_many=True)


def ours(source, size, patch, batch_size, views=None):
    """Batches of the pipeline, without end."""
    views = views or PairedViews(size)
    grid = (size // patch, size // patch)
    masking = Masking.of_ratio(grid, 0.6, min_block=max(2, grid[0] * grid[1] // 12))
    return iter(pipeline.training_batches(source, views, masking, batch_size=batch_size))


def rate(iterator, batch_size, seconds):
    """Pairs a second over at least the given time."""
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        next(iterator)
        count += batch_size
    return count / elapsed


def cpu_milliseconds(pairs, *functions, turns=10):
    """Processor time a pair, all threads together, of functions that take turns: the least of each."""
    found = [[] for _ in functions]
    for _ in range(1 + turns):
        for function, times in zip(functions, found, strict=True):
            start = time.process_time()
            function()
            times.append(1e3 * (time.process_time() - start) / pairs)
    return [min(times) for times in found]


def stages(files, shape, size, patch, batch_size):
    """Processor milliseconds a pair of every stage, one after the other on the same images."""
    equal = shape[0] * shape[1] <= batch_loading.EQUAL_SIZE_LIMIT
    few = files[: batch_size if equal else 64]
    count = len(few)
    index = tf.range(count, dtype=tf.int64)
    views = PairedViews(size)
    each = tf.function(lambda encoded: tf.map_fn(decoding.decode, encoded, fn_output_signature=tf.uint8))
    decode = tf.function(lambda encoded: decoding.decode_equal(encoded, shape)) if equal else each
    pixels = decode(tf.constant(few))
    draw = tf.function(lambda: views.draw(index, 0, tf.fill([count], shape[0]), tf.fill([count], shape[1])))
    boxes, numbers = draw()
    cut = tf.function(lambda: tf.map_fn(lambda pair: views.cut(*pair), (pixels, boxes), fn_output_signature=tf.uint8))
    cuts = cut() if not equal else None
    masking = Masking.of_ratio((size // patch,) * 2, 0.6, min_block=max(2, (size // patch) ** 2 // 12))

    def render(view_1, view_2):
        made = PairedViews(size, view_1, view_2)
        if equal:
            return lambda: [view.numpy() for view in made.cut_and_color(pixels, boxes, numbers)]
        color = tf.function(made.color)
        return lambda: [view.numpy() for view in color(cuts, numbers)]

    blurring = [dataclasses.replace(ONLY_CROPS, blur_probability=view.blur_probability) for view in views.recipes]
    plain, blurred, whole = cpu_milliseconds(
        count, render(ONLY_CROPS, ONLY_CROPS), render(*blurring), render(views.view_1, views.view_2)
    )
    many = np.arange(batch_size)
    (masks,) = cpu_milliseconds(batch_size, lambda: masking.visible_ids(0, 0, many))
    read, drawn, cropped = cpu_milliseconds(
        count, lambda: decode(tf.constant(few)), draw, (lambda: None) if equal else cut
    )
    return {
        "decode": read,
        "draw": drawn,
        "crop + resize": cropped + plain,
        "color": whole - blurred,
        "blur": blurred - plain,
        "masks": masks,
    }


def megabytes(pid="self"):
    """Peak resident memory of a process (Linux)."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def main(arguments=None):
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="of every measurement")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each road; the median counts")
    parser.add_argument("--sizes", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--data", help="take images from here, brought to each setting's size, instead of photographs")
    options = parser.parse_args(arguments)
    chosen = {name: SETTINGS[name] for name in options.sizes}
    stored = {
        name: from_source(options.data, *shape) if options.data else photographs(*shape)
        for name, (shape, *_) in chosen.items()
    }
    print("pairs a second (peak memory of one process), and this pipeline over its rivals")
    for name, setting in chosen.items():
        own, rivals = take_turns(stored[name], *setting, options.rounds, options.seconds)
        print(f"{name:>4} this pipeline {own:.0f} ({megabytes():.0f} MB)", end="")
        for rival, (found, memory) in rivals.items():
            print(f"; {rival} {found:.0f} ({memory:.0f} MB) {own / found:.1f}x", end="")
        print(flush=True)
    print("where the time goes, processor milliseconds a pair")
    for name, setting in chosen.items():
        parts = stages(stored[name], *setting)
        print(f"{name:>4} " + ", ".join(f"{stage} {value:.3f}" for stage, value in parts.items()), flush=True)


def take_turns(files, shape, size, patch, batch_size, rounds, seconds):
    """Measure all roads in turns: median pairs a second of ours, and of each rival with the MB of a worker of it."""
    own = ours(source_of(files, shape), size, patch, batch_size)
    roads, memory = {"": own}, {}
    for name, rival in rivals().items():
        others = set(multiprocessing.active_children())
        roads[name] = rival.batches(files, size, batch_size)
        next(roads[name])
        memory[name] = set(multiprocessing.active_children()) - others
    rates = {name: [] for name in roads}
    for _ in range(rounds):
        for name, road in batch_loading.items():
            # The others finish what they began, and what lies ready in buffers is taken out, before the clock starts.
            time.sleep(REST)
            list(itertools.islice(road, READY))
            rates[name].append(rate(road, batch_size, seconds))
    memory = {name: max(megabytes(worker.pid) for worker in workers) for name, workers in memory.items()}
    for name in memory:
        roads[name].close()
    median = {name: statistics.median(found) for name, found in rates.items()}
    return median[""], {name: (median[name], memory[name]) for name in memory}


def rivals():
    """The other roads that this machine can run."""
    found = {"PIL": pillow_road}
    if importlib.util.find_spec("torchvision"):
        from benchmarks.pipeline import torchvision_road

        found["torchvision"] = torchvision_road
    return found


def from_source(data, height, width, count=256):
    """JPEG files of one size from a user's images."""
    files = []
    examples = sources.open_source(data).examples(0, 0, shuffle=True).map(error_handling.decoded)
    for example in examples.take(count).as_numpy_iterator():
        buffer = io.BytesIO()
        Image.fromarray(example["image"]).resize((width, height)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


if __name__ == "__main__":
    main()
