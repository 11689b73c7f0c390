"""A SavedModel for TensorFlow Serving, from a model on any backend."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_siamim.export.outputs import in_float32, keras_outputs, largest_difference, parts, probe_images
from keras_siamim.objectives.base import POOLINGS

TOLERANCE = 1e-4
WEIGHTS_DTYPES = ("float32", "bfloat16", "float16")


class Export(NamedTuple):
    """Result of an export.

    Attributes:
        path: The version's directory.
        error: Largest difference of its outputs from Keras's, over the largest magnitude of each, weights in float32.
        rounding_error: The same of the exported file, weights in `weights_dtype`: what half precision costs.
        size: Bytes of all files.
    """

    path: Path
    error: float
    rounding_error: float
    size: int


def export_saved_model(
    model,
    directory,
    version=None,
    head=None,
    pooling=None,
    image_size=None,
    crop_fraction=None,
    weights_dtype="float32",
):
    """Export an encoder, or a classifier, as a SavedModel that TensorFlow alone loads.

    The graph resizes, crops and normalizes. Signatures:

    | name | input | outputs |
    |---|---|---|
    | `serving_default` | `images` (batch, height, width, 3) uint8, 0...255, any size | all |
    | `image_bytes` | `image_bytes` (batch,) string: JPEG, PNG, GIF, BMP or WebP files | all |
    | `tokens` | `images` (batch, *image_size, 3) float32, normalized | `tokens` (batch, 1 + patches, width) |

    All outputs: `class_token` and `pooled` (batch, width), `patch_tokens` (batch, patches, width), and with a head
    `logits` and `probabilities` (batch, classes); float32.

    On JAX and PyTorch the weights are saved and reloaded under TensorFlow in a fresh process. The written file's
    outputs are compared with those of `model` on the backend at hand, and the export refused if they differ. The
    version is written aside and renamed: a server that watches `directory` never sees half a model. Beside the versions
    lies `batching_parameters.txt`; in each, requests to warm up with.

    Args:
        model: A `ViTEncoder`; an objective, whose encoder is taken; a `Classifier`, exported with its head; or another
            serializable Keras model that maps normalized images to tokens (batch, 1 + patches, width).
        directory: Where the versions lie; its name is the model's.
        version: Whole number above 0; None takes the next one.
        head: Built Keras layer from `pooled` to logits; None for none, or a classifier's own.
        pooling: `"mean"` of the patch tokens or the class `"token"`; None for the classifier's, or the mean.
        image_size: (height, width) in pixels that the encoder sees; None takes what it was built for.
        crop_fraction: In (0, 1]: images are resized to cover a frame of `image_size / crop_fraction` and its center
            is cut out. Defaults to what `evaluation_batches` does: 0.875 (resize 256, crop 224), and images of exactly
            `image_size` as they are.
        weights_dtype: `"float32"`, or `"bfloat16"` / `"float16"` for half the size; the arithmetic stays float32.

    Returns:
        An `Export`.

    Raises:
        ValueError: For arguments outside their range, or a version that exists.
        RuntimeError: If the export's outputs differ from Keras's by more than 1e-4 of the largest.
    """
    directory = Path(directory)
    encoder, head, pooling = parts(model, head, pooling)
    if pooling not in POOLINGS:
        raise ValueError(f"`pooling` must be one of {POOLINGS}. Received: {pooling!r}.")
    if weights_dtype not in WEIGHTS_DTYPES:
        raise ValueError(f"`weights_dtype` must be one of {WEIGHTS_DTYPES}. Received: {weights_dtype!r}.")
    if crop_fraction is not None and not 0 < crop_fraction <= 1:
        raise ValueError(f"`crop_fraction` must be above 0 and at most 1. Received: {crop_fraction}.")
    if head is not None and not head.built:
        raise ValueError("`head` must be built, so that its weights exist. Received: a layer that isn't.")
    _check_version(directory, version)
    size = image_size or getattr(encoder, "image_size", None)
    if size is None:
        raise ValueError(f"`image_size` must be given for a model that has none. Received: {type(encoder).__name__}.")
    size = (size, size) if isinstance(size, int) else tuple(size)
    settings = {
        "directory": str(directory.absolute()),
        "version": version,
        "pooling": pooling,
        "image_size": size,
        "crop_fraction": crop_fraction,
        "weights_dtype": weights_dtype,
    }
    encoder, head = in_float32(encoder), in_float32(head)
    reference = keras_outputs(encoder, head, pooling, size)
    if keras.config.backend() == "tensorflow":
        return write_version(encoder, head, reference, settings)
    return _write_in_fresh_process(encoder, head, reference, settings)


def _check_version(directory, version):
    if version is None:
        return
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"`version` must be a whole number above 0. Received: {version!r}.")
    if (directory / str(version)).exists():
        raise ValueError(f"`version` {version} exists in {directory} and is not overwritten; take another.")


def _next_version(directory):
    return max([int(child.name) for child in directory.iterdir() if child.name.isdigit()], default=0) + 1


def write_version(encoder, head, reference, settings):
    """Write, compare and publish a version; under TensorFlow.

    Args:
        encoder: See `export_saved_model`.
        head: Likewise.
        reference: What the backend at hand gives for the probe, by output name.
        settings: The other arguments, by name.

    Returns:
        An `Export`.
    """
    from keras_siamim.data.images import preprocessing
    from keras_siamim.export import serving, warmup

    directory, image_size = Path(settings["directory"]), tuple(settings["image_size"])
    directory.mkdir(parents=True, exist_ok=True)
    fraction = settings["crop_fraction"]
    frame = None if fraction is None else preprocessing.frame_of(image_size, fraction)
    build = {"pooling": settings["pooling"], "image_size": image_size, "frame": frame}
    aside = Path(tempfile.mkdtemp(prefix=".writing-", dir=directory))
    try:
        probe = ("serving_default", "images", probe_images(image_size))
        served = serving.ServedModel(encoder, head, weights_dtype="float32", **build)
        error = largest_difference(_of_probe(served, probe[2]), reference)
        if not error <= TOLERANCE:
            raise RuntimeError(
                f"The export is refused: its outputs differ from Keras's by {error:.1e} of the largest, more than "
                f"{TOLERANCE:.0e}."
            )
        if settings["weights_dtype"] != "float32":
            served = serving.ServedModel(encoder, head, weights_dtype=settings["weights_dtype"], **build)
        served.save(aside)
        written = serving.run_signature(aside, probe)
        expected = {name: value.numpy() for name, value in served.signatures["serving_default"](probe[2]).items()}
        if not (difference := largest_difference(written, expected)) <= TOLERANCE:
            raise RuntimeError(f"The export is refused: the file read back differs by {difference:.1e} of the largest.")
        warmup.write_warmup_requests(aside, directory.name, image_size)
        (aside / "assets.extra" / "preprocessing.json").write_text(
            json.dumps({"image_size": image_size, "frame": frame})
        )
        aside.chmod(0o755)
        path = _publish(aside, directory, settings["version"])
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    parameters = directory / "batching_parameters.txt"
    if not parameters.exists():
        parameters.write_text(warmup.batching_parameters())
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return Export(path, error, largest_difference(_of_probe(served, probe[2]), reference), size)


def _of_probe(served, images):
    # Without resizing, which is not the model's.
    return {name: value.numpy() for name, value in served.outputs(images).items()}


def _publish(aside, directory, version):
    """Give a finished version its number; a number taken meanwhile is not overwritten."""
    while True:
        path = directory / str(version or _next_version(directory))
        if not path.exists():  # a rename would replace an empty directory
            try:
                return aside.rename(path)
            except OSError:
                if not path.exists():
                    raise
        if version:
            raise ValueError(f"`version` {version} exists in {directory} and is not overwritten; take another.")


def _modules_of(config):
    """Modules that register the classes of a serialized model, for another process to import.

    Raises:
        ValueError: If one is the program that runs, which another process can't import.
    """
    if isinstance(config, (list, tuple)):
        return [module for value in config for module in _modules_of(value)]
    if not isinstance(config, dict):
        return []
    found = [module for value in config.values() for module in _modules_of(value)]
    module = config.get("module") if "class_name" in config else None
    if config.get("registered_name") and not module:
        registered = keras.saving.get_registered_object(config["registered_name"])
        module = getattr(registered, "__module__", None)
    if module == "__main__":
        raise ValueError(
            f"`model` must be of classes that another process can import, on backends other than TensorFlow. Received: "
            f"{config['class_name']}, which the program itself defines; move it to a module."
        )
    if isinstance(module, str) and module.split(".")[0] not in ("keras", "keras_siamim", "builtins"):
        found.append(module)
    return list(dict.fromkeys(found))


def _write_in_fresh_process(encoder, head, reference, settings):
    """Hand everything over to a process whose Keras runs on TensorFlow."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name, model in (("encoder", encoder), ("head", head)):
            if model is not None:
                config = keras.saving.serialize_keras_object(model)
                settings = {**settings, "modules": [*settings.get("modules", ()), *_modules_of(config)]}
                (folder / f"{name}.json").write_text(json.dumps(config))
                weights = {str(i): ops.convert_to_numpy(weight) for i, weight in enumerate(model.weights)}
                np.savez(folder / f"{name}.npz", **weights)
        np.savez(folder / "reference.npz", **reference)
        (folder / "settings.json").write_text(json.dumps(settings))
        environment = {
            **os.environ,
            "KERAS_BACKEND": "tensorflow",
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            "CUDA_VISIBLE_DEVICES": "-1",  # the accelerator is taken by this process
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        command = [sys.executable, "-m", "keras_siamim.export.worker", str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if not (folder / "result.json").exists():
            raise RuntimeError(f"The process that exports under TensorFlow failed:\n{done.stderr[-4000:]}")
        result = json.loads((folder / "result.json").read_text())
    if "refused" in result:
        raise RuntimeError(result["refused"])
    return Export(Path(result["path"]), result["error"], result["rounding_error"], result["size"])
