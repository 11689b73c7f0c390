"""Time and peak memory of k-NN segmentation at the sizes of CamVid: 367 training and 233 test images of 224 px.

    python -m benchmarks.knn_segmentation [--train 367] [--test 233] [--grid 14] [--patch 16] [--width 192]

Segments all test patches with all eight settings (k of 1, 3, 10, 30; cosine and L2) from random features around 40
centers. Peak memory is that of the process, libraries included.
"""

import argparse
import resource
import time

import numpy as np

from keras_siamim.evaluation.knn_segmentation import METRICS, NEIGHBORS, knn_scores
from keras_siamim.evaluation.patch_features import PatchFeatures
from keras_siamim.evaluation.segmentation_protocol import prepare_patches

CENTERS = 40


def make_split(images: int, options: argparse.Namespace, seed: int) -> PatchFeatures:
    """Return noisy features around random centers, whose labels are those of their centers."""
    centers = np.random.default_rng(0).standard_normal((CENTERS, options.width), dtype="float32")
    rng = np.random.default_rng(seed)
    nearest = rng.integers(0, CENTERS, (images, options.grid, options.grid))
    noise = rng.standard_normal((images, options.grid**2, options.width), dtype="float32")
    maps = np.repeat(np.repeat(nearest % options.classes, options.patch, axis=1), options.patch, axis=2)
    tokens = centers[nearest].reshape(noise.shape) + 3 * noise
    return PatchFeatures(tokens, (options.grid, options.grid), maps.astype("uint8"))


def main() -> None:
    """Measure both metrics and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = {"train": 367, "test": 233, "grid": 14, "patch": 16, "width": 192, "classes": 11}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    train, test = make_split(options.train, options, 1), make_split(options.test, options, 2)
    wall, processor = time.perf_counter(), time.process_time()
    patches = prepare_patches(train, test, options.classes, ignore=255, held_out=0.1, seed=0)
    print("| metric | mean IoU by k | seconds | processor seconds |\n|---|---|---|---|")
    for metric in METRICS:
        scores = [each.scores() for each in knn_scores(patches.train, patches.test, NEIGHBORS, metric, options.classes)]
        found = ", ".join(f"{k}: {score.mean_iou:.3f}" for k, score in zip(NEIGHBORS, scores, strict=True))
        seconds = time.perf_counter() - wall, time.process_time() - processor
        print(f"| {metric} | {found} | {seconds[0]:.0f} | {seconds[1]:.0f} |")
        wall, processor = time.perf_counter(), time.process_time()
    print(f"\npeak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
