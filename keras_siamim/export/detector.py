"""SavedModel of a detector, from a model on any backend.

    python -m keras_siamim.export.detector FOLDER

`export_detector` starts this program where Keras does not run on TensorFlow.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_siamim import batch as keys
from keras_siamim.detection import MaskRCNN
from keras_siamim.export.outputs import to_float32
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
from keras_siamim.types import ArrayLike, PathLike


def export_detector(model: MaskRCNN, directory: PathLike, version: int | None = None) -> Export:
    """Export a detector as a SavedModel, which needs TensorFlow alone to load.

    The signature `serving_default` takes `images`, (batch, height, width, 3) uint8 in [0, 255] of any size. It returns
    `boxes`, (batch, detections, 4) float32: x1, y1, x2, y2 in pixels of the images; `scores`, (batch, detections)
    float32, the best first; `classes`, (batch, detections) int32, -1 in the padding; `counts`, (batch,) int32; and with
    masks `masks`, (batch, detections, 28, 28) float32, probabilities inside the boxes. `with_threshold` takes
    `score_threshold`, (batch,) float32, too. `image_masks` returns `masks` of the size of the images, uint8.

    On JAX and PyTorch, a new process exports the model under TensorFlow. The 100 best detections of the written file,
    whatever their scores, are compared with those of `model` on the active backend. A version is renamed to its number
    when it is complete.

    Args:
        model: `MaskRCNN` for square images.
        directory: String or path. Directory of the versions; its name is the model's name.
        version: Integer of at least 1. Defaults to the next one.

    Returns:
        An `Export`.

    Raises:
        ValueError: If an argument is out of its range, or the version exists.
        RuntimeError: If the detections differ from Keras's by more than 1e-4, see `detection_difference`.
    """
    directory = Path(directory).absolute()
    if not isinstance(model, MaskRCNN) or model.image_size[0] != model.image_size[1]:
        received = f"one of {model.image_size}" if isinstance(model, MaskRCNN) else type(model).__name__
        raise ValueError(f"`model` must be a MaskRCNN for square images. Received: {received}.")
    check_version(directory, version)
    model = to_float32(model)
    reference = keras_detections(model)
    if keras.config.backend() == "tensorflow":
        return write_detector(model, reference, directory, version)
    settings = {"directory": str(directory), "version": version}
    return export_in_new_process("keras_siamim.export.detector", model, reference, settings)


def probe(model: MaskRCNN) -> np.ndarray:
    """Return a fixed random image, not square, on which Keras and an export are compared, (height, width, 3) uint8."""
    side = model.image_size[0]
    return np.random.default_rng(0).integers(0, 256, (side, side + side // 2 + 1, 3), "uint8")


def keras_detections(model: MaskRCNN) -> dict[str, np.ndarray]:
    """Return the best detections of Keras in the `probe`, without the axis of the batch, whatever their scores."""
    from keras_siamim.data.images.squares import fit_square

    image = probe(model)
    fitted, size = (value.numpy() for value in fit_square(image, model.image_size[0]))
    batch = {
        keys.IMAGES: fitted[None],
        keys.SIZES: size[None],
        keys.ORIGINAL_SIZES: np.array([image.shape[:2]], "int32"),
        keys.SCORE_THRESHOLD: np.zeros(1, "float32"),
    }
    return {name: ops.convert_to_numpy(value)[0] for name, value in model.predict_on_batch(batch).items()}


def detection_difference(
    found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], image_size: tuple[int, int]
) -> float:
    """Return how far the detections of one model are from those of another, whatever their order.

    Each expected detection is compared with the most similar one of its class.

    Args:
        found: Dictionary of `boxes`, `scores`, `classes` and, possibly, `masks` of one image.
        expected: Another one.
        image_size: (height, width) of the image in pixels.

    Returns:
        Float. The largest difference of a score, of a probability of a mask, or of a corner of a box relative to the
        longer side of the image; infinity if the numbers of detections of a class differ.

    Example:
        >>> one = {"boxes": np.array([[0, 0, 4, 4]]), "scores": np.array([0.5]), "classes": np.array([1])}
        >>> detection_difference(one, {**one, "scores": np.array([0.25])}, (4, 8))
        0.25
    """
    if not np.array_equal(np.sort(found["classes"]), np.sort(expected["classes"])):
        return float("inf")
    names = [name for name in ("boxes", "scores", "masks") if name in expected]
    scale = {"boxes": max(image_size)}
    worst = 0.0
    for row, label in enumerate(expected["classes"]):
        same = found["classes"] == label
        differences = np.zeros(int(same.sum()))
        for name in names:
            distance = np.abs(found[name][same] - expected[name][row]) / scale.get(name, 1)
            differences = np.maximum(differences, distance.reshape(len(differences), -1).max(axis=1))
        worst = max(worst, float(differences.min()))
    return worst


def write_detector(model: MaskRCNN, reference: dict[str, np.ndarray], directory: Path, version: int | None) -> Export:
    """Write, compare and publish a version. Needs Keras on TensorFlow.

    Args:
        model: Float32 `MaskRCNN`.
        reference: Dictionary of `keras_detections`.
        directory: `Path`. Directory of the versions.
        version: Integer, or None for the next one.

    Returns:
        An `Export`.

    Raises:
        ValueError: If the version exists.
        RuntimeError: If the detections differ by more than 1e-4.
    """
    import tensorflow as tf

    from keras_siamim.export.detector_graph import ServedDetector
    from keras_siamim.export.warmup import write_warmup

    with staging_directory(directory) as staging:
        images, thresholds = probe(model)[None], np.zeros(1, "float32")
        served = ServedDetector(model)
        served.save(staging)
        signature = tf.saved_model.load(str(staging)).signatures["with_threshold"]
        outputs = signature(images=tf.constant(images), score_threshold=tf.constant(thresholds))
        found = {name: value.numpy()[0] for name, value in outputs.items()}
        error = detection_difference(found, reference, images.shape[1:3])
        refuse_above_tolerance(error)
        inputs: dict[str, ArrayLike] = {"images": images}
        requests = [(name, inputs) for name in served.signatures if name != "with_threshold"]
        write_warmup(
            staging, directory.name, [*requests, ("with_threshold", {**inputs, "score_threshold": thresholds})]
        )
        preprocessing = {"image_size": model.image_size[0], "classes": model.num_classes}
        (staging / "assets.extra" / "preprocessing.json").write_text(json.dumps(preprocessing))
        path = publish(staging, directory, version)
    return Export(path, error, error, size_of(path))


def main(folder: Path) -> None:
    """Export the model of a folder and write the result.

    Args:
        folder: `Path`. Folder that `export_in_new_process` has filled.
    """

    def write(model, reference, settings):
        return write_detector(model, reference, Path(settings["directory"]), settings["version"])

    run_export(folder, write)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
