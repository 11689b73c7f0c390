"""Feed thousands of damaged JPEGs to the pipeline: `python -m tests.programs.mutate_images [--count 10000]`.

Flips bits, overwrites blocks and truncates files, all from one seed. Prints the number of replaced images, the reasons,
and the resident memory in between, which must stay constant.
"""

import argparse
import collections
import ctypes
import gc
import io
import re

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_siamim.data import pipeline, sources
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.views.paired_views import PairedViews
from keras_siamim.data.views.recipe import ViewRecipe
from tests.data.images.photographs import photographs

PLAIN = ViewRecipe.crop_and_flip()
BATCH = 50


def originals():
    """Return eight JPEGs of several sizes: baseline, progressive, gray, CMYK, with orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    files = []
    for k, options in enumerate([{}, {"progressive": True}, {"exif": exif}, {"quality": 30}] * 2):
        image = Image.fromarray(photographs()[k % 2, 40 * k : 40 * k + 48 + 16 * k, 60 : 124 + 16 * k])
        image = image.convert("L") if k == 5 else image.convert("CMYK") if k == 7 else image
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", **options)
        files.append(buffer.getvalue())
    return files


def mutated(data, rng):
    """Return a damaged copy of some bytes, never empty."""
    values = np.frombuffer(data, np.uint8).copy()
    # Half of the damage goes to the headers, where it has the largest effect.
    reach = len(values) if rng.random() < 0.5 else min(700, len(values))
    kind = rng.integers(4)
    if kind == 0:
        values = values[: rng.integers(1, len(values))]
    elif kind == 1:
        start, length = rng.integers(reach), rng.integers(1, 64)
        values[start : start + length] = rng.integers(0, 256, len(values[start : start + length]))
    else:
        for position in rng.integers(0, reach, rng.integers(1, 1 + 4**kind)):
            values[position] ^= np.uint8(1 << rng.integers(8))
    return values.tobytes()


def mutated_source(count, seed=0):
    """Return a source of damaged JPEGs, in which every tenth file is intact and can replace others."""
    rng, intact = np.random.default_rng(seed), originals()
    files = tf.constant([intact[k % 8] if k % 10 == 0 else mutated(intact[k % 8], rng) for k in range(count)])
    return sources.IndexedSource("mutated", count, lambda index: {"image": files[index]})


def megabytes():
    """Return the resident memory of this process (Linux with glibc), after returning free memory to the system."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def run(count, report=lambda line: None):
    """Process damaged images with the complete pipeline once.

    Returns:
        The ledger, the number of batches, and the memory in MB after each tenth of the batches.
    """
    source, ledger = mutated_source(count), Ledger(limit=0.999)
    batches = pipeline.training_batches(
        source, PairedViews(16, PLAIN, PLAIN), batch_size=BATCH, shuffle=False, ledger=ledger
    )
    steps, memory = count // BATCH, []
    for step, batch in enumerate(batches.take(steps).as_numpy_iterator(), start=1):
        assert batch["view_1"].shape == (BATCH, 16, 16, 3)
        assert np.isfinite(batch["view_1"]).all()
        if step % max(1, steps // 10) == 0:
            memory.append(megabytes())
            report(f"{step * BATCH:>6} images, {len(ledger.entries()):>5} replaced, {memory[-1]:.0f} MB")
    return ledger, step, memory


def main():
    """Run and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    options = parser.parse_args()
    ledger, steps, _ = run(options.count, lambda line: print(line, flush=True))
    reasons = collections.Counter(re.sub(r"\d[\d,]*", "N", entry["reason"]) for entry in ledger.entries())
    print(f"{steps * BATCH} images, {len(ledger.entries())} replaced, no crash")
    for reason, number in reasons.most_common():
        print(f"{number:>6}  {reason}")


if __name__ == "__main__":
    main()
