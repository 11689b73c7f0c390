"""SavedModel of a segmenter, from a model on any backend.

    python -m keras_siamim.export.segmenter FOLDER

`export_segmenter` starts this program where Keras does not run on TensorFlow.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_siamim.arguments import whole_number
from keras_siamim.export.outputs import largest_difference, to_float32
from keras_siamim.export.versions import (
    Export,
    check_version,
    export_in_new_process,
    publish,
    refuse_above_tolerance,
    run_export,
    size_of,
    staging_directory,
)
from keras_siamim.segmentation import UPerNet
from keras_siamim.segmentation.layers import resize_bilinear
from keras_siamim.types import PathLike


def export_segmenter(
    model: UPerNet, directory: PathLike, version: int | None = None, short_side: int | None = None
) -> Export:
    """Export a segmenter as a SavedModel, which needs TensorFlow alone to load.

    The signature `serving_default` takes `images`, (batch, height, width, 3) uint8 in [0, 255] of any size. It returns
    `label_map`, (batch, height, width) int32, and `scores`, (batch, height, width, classes) float32, the probabilities
    of the classes. The graph resizes and normalizes images, averages the logits of overlapping windows, and resizes
    them to the size of the images.

    On JAX and PyTorch, a new process exports the model under TensorFlow. The scores of the written file are compared
    with those of `model` on the active backend. A version is renamed to its number when it is complete.

    Args:
        model: `UPerNet`.
        directory: String or path. Directory of the versions; its name is the model's name.
        version: Integer of at least 1. Defaults to the next one.
        short_side: Integer. Shorter side in pixels of the images that the model segments; the longer one is at most
            four times as long. Defaults to the shorter side of its crops.

    Returns:
        An `Export`.

    Raises:
        ValueError: If an argument is out of its range, or the version exists.
        RuntimeError: If the scores differ from Keras's by more than 1e-4.
    """
    directory = Path(directory).absolute()
    if not isinstance(model, UPerNet):
        raise ValueError(f"`model` must be a UPerNet. Received: {type(model).__name__}.")
    short_side = min(model.crop_size) if short_side is None else whole_number("short_side", short_side)
    check_version(directory, version)
    model = to_float32(model)
    reference = {str(number): keras_scores(model, image, short_side) for number, image in enumerate(probes(model))}
    if keras.config.backend() == "tensorflow":
        return write_segmenter(model, reference, directory, version, short_side)
    settings = {"directory": str(directory), "version": version, "short_side": short_side}
    return export_in_new_process("keras_siamim.export.segmenter", model, reference, settings)


def probes(model: UPerNet) -> list[np.ndarray]:
    """Return fixed random images of two sizes, (height, width, 3) uint8, on which Keras and an export are compared."""
    random, (height, width) = np.random.default_rng(0), model.crop_size
    sizes = [(height, width), (height + height // 2, 2 * width + 1)]
    return [random.integers(0, 256, (*size, 3), "uint8") for size in sizes]


def keras_scores(model: UPerNet, image: np.ndarray, short_side: int) -> np.ndarray:
    """Return the scores of Keras for one image.

    Args:
        model: `UPerNet`.
        image: (height, width, 3) uint8.
        short_side: Integer. Shorter side in pixels to resize the image to.

    Returns:
        (height, width, classes) float32, probabilities.
    """
    from keras_siamim.data.label_map_batches import resized_to_fit

    logits = model.sliding_logits(resized_to_fit(image, short_side).numpy())
    resized = resize_bilinear(ops.convert_to_tensor(logits[None]), image.shape[:2])
    return ops.convert_to_numpy(ops.softmax(resized))[0]


def write_segmenter(
    model: UPerNet, reference: dict[str, np.ndarray], directory: Path, version: int | None, short_side: int
) -> Export:
    """Write, compare and publish a version. Needs Keras on TensorFlow.

    Args:
        model: Float32 `UPerNet`.
        reference: Dictionary of the `keras_scores` of the `probes` by their numbers.
        directory: `Path`. Directory of the versions.
        version: Integer, or None for the next one.
        short_side: Integer. Shorter side in pixels to resize images to.

    Returns:
        An `Export`.

    Raises:
        ValueError: If the version exists.
        RuntimeError: If the scores differ by more than 1e-4.
    """
    from keras_siamim.export.segmenter_graph import ServedSegmenter
    from keras_siamim.export.serving import run_signature
    from keras_siamim.export.warmup import write_warmup

    with staging_directory(directory) as staging:
        images = probes(model)
        ServedSegmenter(model, short_side).save(staging)
        found = [run_signature(staging, ("serving_default", "images", image[None]))["scores"][0] for image in images]
        error = largest_difference({str(number): scores for number, scores in enumerate(found)}, reference)
        refuse_above_tolerance(error)
        write_warmup(staging, directory.name, [("serving_default", {"images": image[None]}) for image in images])
        preprocessing = {"short_side": short_side, "window": list(model.crop_size)}
        (staging / "assets.extra" / "preprocessing.json").write_text(json.dumps(preprocessing))
        path = publish(staging, directory, version)
    return Export(path, error, error, size_of(path))


def main(folder: Path) -> None:
    """Export the model of a folder and write the result.

    Args:
        folder: `Path`. Folder that `export_in_new_process` has filled.
    """

    def write(model, reference, settings):
        directory, version, short_side = Path(settings["directory"]), settings["version"], settings["short_side"]
        return write_segmenter(model, reference, directory, version, short_side)

    run_export(folder, write)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
