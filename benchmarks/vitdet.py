"""Training step of ViTDet with Mask R-CNN beside plain eager PyTorch of the same layers, interleaved.

    python -m benchmarks.vitdet [--size 256] [--width 192] [--depth 12] [--pyramid 96] [--batch 2] [--plain-python PATH]

All programs train on the same random images and objects. `plain_vitdet.py` is the baseline; a test compares its losses
with ours. It uses torchvision's suppression and RoIAlign if the Python of `--plain-python` has torchvision, which not
every build of PyTorch supports.
"""

import argparse
from collections.abc import Callable

import numpy as np

from benchmarks.interleaved import run_step_benchmark

PATCH, CLASSES, OBJECTS = 16, 11, 6
SIZES = {"size": 256, "width": 192, "depth": 12, "heads": 3, "pyramid": 96, "batch": 2}


def make_step(program: str, options: argparse.Namespace) -> Callable[[], float]:
    """Build a model and return a function that runs one training step and returns its loss.

    Args:
        program: str. `"plain"` for PyTorch, or a Keras backend.
        options: Parsed options of the command.
    """
    random, size = np.random.default_rng(0), options.size
    images = random.normal(size=(options.batch, size, size, 3)).astype("float32")
    corners = random.uniform(0, 0.6 * size, (options.batch, OBJECTS, 2))
    boxes = np.concatenate([corners, corners + random.uniform(0.1 * size, 0.4 * size, corners.shape)], 2)
    boxes, classes = boxes.astype("float32"), random.integers(0, CLASSES, (options.batch, OBJECTS))
    places = np.arange(size)
    inside = [(boxes[..., i, None] <= places) & (places < boxes[..., i + 2, None]) for i in (0, 1)]
    masks = (inside[0][:, :, None] & inside[1][:, :, :, None]).astype("uint8")
    numbers = {
        "anchor_sizes": tuple(size * 2.0**power for power in range(-4, 1)),
        "anchors_sampled": 128,
        "pre_nms_train": 400,
        "post_nms_train": 200,
        "regions_sampled": 64,
        "canonical_size": 224 * size / 1024,
        "pyramid_width": options.pyramid,
        "head_width": options.pyramid,
    }
    window, global_blocks = size // PATCH // 2, tuple(options.depth * quarter // 4 - 1 for quarter in range(1, 5))
    if program == "plain":
        import types

        import torch

        from benchmarks.plain_vitdet import PlainMaskRCNN, PlainMaskRCNNStep

        others = {
            "anchor_positive_fraction": 0.5,
            "region_positive_fraction": 0.25,
            "proposal_nms_threshold": 0.7,
            "canonical_level": 4,
            "dense_width": 1024,
        }
        settings = types.SimpleNamespace(**numbers, **others)
        sizes = (size, PATCH, options.width, options.depth, options.heads)
        step = PlainMaskRCNNStep(PlainMaskRCNN(*sizes, CLASSES, window, global_blocks, settings))
        batch = (torch.tensor(images), torch.tensor(boxes), torch.tensor(classes), torch.tensor(masks).float())
        return lambda: float(step(*batch))
    import keras_siamim as ks
    from keras_siamim.detection import DetectorSettings, MaskRCNN
    from keras_siamim.optimizers import LayerDecayAdamW

    encoder = ks.ViTEncoder(size, PATCH, options.width, options.depth, options.heads)
    model = MaskRCNN(
        encoder,
        CLASSES,
        size,
        settings=DetectorSettings(**numbers),
        window_size=window,
        global_blocks=global_blocks,
        drop_path_rate=0.0,
        seed=0,
    )
    model.compile(LayerDecayAdamW(1e-4, depth=options.depth, layer_decay=0.7, weight_decay=0.1))
    sizes = np.full((options.batch, 2), size, "int32")
    truth = {"boxes": boxes, "classes": classes.astype("int32"), "masks": masks}
    inputs = {"images": images, "sizes": sizes, **truth}
    return lambda: float(model.train_on_batch(inputs, return_dict=True)["loss"])


if __name__ == "__main__":
    run_step_benchmark("benchmarks.vitdet", __doc__.splitlines()[0], SIZES, make_step)
