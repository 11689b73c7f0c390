"""RoIAlign and non-maximum suppression beside torchvision's kernels, interleaved.

    python -m benchmarks.regions --plain-python PATH

PATH is a Python with torchvision, which not every build of PyTorch supports. Sizes are those of ViTDet at 256 pixels,
two images: 64 regions of each from four maps of 96 channels, forward and backward; and 2,000 boxes for suppression.
"""

import argparse
import sys
from collections.abc import Callable

import numpy as np

from benchmarks.interleaved import compare, serve, table_of

IMAGES, REGIONS, CHANNELS, SIZE, BINS, CANDIDATES = 2, 64, 96, 256, 7, 2000


def _boxes(random, count, lowest, highest):
    corners = random.uniform(0, SIZE * 0.7, (IMAGES, count, 2))
    return np.concatenate([corners, corners + random.uniform(lowest, highest, corners.shape)], 2).astype("float32")


def make_step(program: str, task: str) -> Callable[[], float]:
    """Return a function that runs a task once and returns a number that depends on its result.

    Args:
        program: str. `"plain"` for torchvision, or a Keras backend.
        task: str. `"align"` or `"suppress"`.
    """
    random = np.random.default_rng(0)
    if task == "suppress":
        boxes, scores = (
            _boxes(random, CANDIDATES, SIZE / 64, SIZE * 0.3),
            random.uniform(size=(IMAGES, CANDIDATES)).astype("float32"),
        )
        return _suppress(program, boxes, scores)
    boxes = _boxes(random, REGIONS, SIZE / 64, SIZE * 0.3)
    sides = [SIZE // stride for stride in (4, 8, 16, 32)]
    maps = [random.normal(size=(IMAGES, side, side, CHANNELS)).astype("float32") for side in sides]
    return _align(program, boxes, maps)


def _suppress(program, boxes, scores):
    if program == "plain":
        import torch
        from torchvision.ops import nms

        pairs = [(torch.tensor(x), torch.tensor(y)) for x, y in zip(boxes, scores, strict=True)]
        return lambda: float(sum(len(nms(x, y, 0.7)) for x, y in pairs))
    from keras import ops

    from keras_siamim.ops.nms import non_max_suppression

    kept = _compiled(lambda x, y: non_max_suppression(x, y, 0.7, 1000)[1])
    pair = ops.convert_to_tensor(boxes), ops.convert_to_tensor(scores)
    return lambda: float(ops.convert_to_numpy(kept(*pair)).sum())


def _align(program, boxes, maps):
    areas = np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)
    levels = np.clip(np.floor(4 + np.log2(np.sqrt(areas) / (224 * SIZE / 1024) + 1e-8)), 2, 5).astype("int32") - 2
    if program == "plain":
        import torch

        from benchmarks.plain_regions import align

        channels_first = [torch.tensor(x).permute(0, 3, 1, 2).contiguous().requires_grad_() for x in maps]
        flat, of_image = torch.tensor(boxes).flatten(0, 1), np.repeat(np.arange(IMAGES), REGIONS)

        def step():
            total = 0.0
            for level, x in enumerate(channels_first):
                x.grad = None
                rows = np.flatnonzero(levels.ravel() == level)
                total = total + align(x, 1 / 2 ** (level + 2), flat[rows], of_image[rows].tolist(), BINS).sum()
            total.backward()
            return float(total.detach())

        return step
    return _keras_align(boxes, maps, levels)


def _keras_align(boxes, maps, levels):
    import keras
    from keras import ops

    from keras_siamim.ops.roi_align import roi_align

    scales = [1 / 2**level for level in range(2, 6)]

    def total_of(*values):
        pooled = roi_align(values, scales, ops.convert_to_tensor(boxes), ops.convert_to_tensor(levels), (BINS, BINS))
        return ops.sum(pooled)

    tensors = [ops.convert_to_tensor(x) for x in maps]
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        step = jax.jit(jax.value_and_grad(total_of, argnums=tuple(range(len(maps)))))
        return lambda: float(jax.block_until_ready(step(*tensors))[0])
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function
        def gradients(*values):
            with tf.GradientTape() as tape:
                tape.watch(values)
                total = total_of(*values)
            return total, tape.gradient(total, values)

        return lambda: float(gradients(*tensors)[0])

    def step():
        for tensor in tensors:
            tensor.requires_grad_().grad = None
        total = total_of(*tensors)
        total.backward()
        return float(total.detach())

    return step


def _compiled(function):
    import keras

    if keras.config.backend() == "jax":
        import jax

        return jax.jit(function)
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


def main() -> None:
    """Compare all programs and print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plain-python", default=sys.executable, help="Python with torchvision")
    parser.add_argument("--task", choices=("align", "suppress"), help=argparse.SUPPRESS)
    parser.add_argument("--worker", metavar="PROGRAM", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(lambda: make_step(options.worker, options.task))
        return
    pythons = {"plain": options.plain_python}
    for task in ("align", "suppress"):
        rows = compare("benchmarks.regions", ["--task", task], options.rounds, pythons=pythons)
        print(f"{task}; plain is torchvision's kernel\n\n{table_of(rows)}\n")


if __name__ == "__main__":
    main()
