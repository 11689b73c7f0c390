"""Training step of UPerNet beside plain eager PyTorch of the same layers, interleaved.

    python -m benchmarks.upernet [--crop 256] [--width 192] [--depth 12] [--head-width 192] [--batch 8]

All programs train on the same random crops. `plain_upernet.py` is the baseline; a test compares its losses with ours.
"""

import argparse
from collections.abc import Callable

import numpy as np

from benchmarks.interleaved import run_step_benchmark

PATCH, CLASSES = 16, 11
SIZES = {"crop": 256, "width": 192, "depth": 12, "heads": 3, "head_width": 192, "batch": 8}


def make_step(program: str, options: argparse.Namespace) -> Callable[[], float]:
    """Build a model and return a function that runs one training step and returns its loss.

    Args:
        program: str. `"plain"` for PyTorch, or a Keras backend.
        options: Parsed options of the command.
    """
    random = np.random.default_rng(0)
    images = random.normal(size=(options.batch, options.crop, options.crop, 3)).astype("float32")
    labels = random.integers(0, CLASSES, images.shape[:3]).astype("uint8")
    auxiliary_width = min(256, options.head_width)
    if program == "plain":
        import torch

        from benchmarks.plain_upernet import PlainUPerNet, PlainUPerNetStep
        from keras_siamim.segmentation.backbone import default_taps

        sizes = (options.crop, PATCH, options.width, options.depth, options.heads, CLASSES)
        model = PlainUPerNet(*sizes, options.head_width, auxiliary_width, default_taps(options.depth))
        step, pair = PlainUPerNetStep(model), (torch.tensor(images), torch.tensor(labels.astype("int64")))
        return lambda: float(step(*pair))
    import keras_siamim as ks
    from keras_siamim.optimizers import LayerDecayAdamW
    from keras_siamim.segmentation import UPerNet

    encoder = ks.ViTEncoder(options.crop, PATCH, options.width, options.depth, options.heads)
    model = UPerNet(encoder, CLASSES, options.crop, options.head_width, auxiliary_width, drop_path_rate=0.0)
    model.compile(LayerDecayAdamW(1e-4, depth=options.depth, decay_tokens=True))
    return lambda: float(np.atleast_1d(model.train_on_batch(images, labels))[0])


if __name__ == "__main__":
    run_step_benchmark("benchmarks.upernet", __doc__.splitlines()[0], SIZES, make_step)
