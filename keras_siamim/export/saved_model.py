"""SavedModel export for TensorFlow Serving, from a model on any backend."""

import json
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_siamim.arguments import height_and_width
from keras_siamim.export.outputs import components, keras_outputs, largest_difference, probe_images, to_float32
from keras_siamim.export.versions import (
    Export,
    check_version,
    export_under_tensorflow,
    publish,
    refuse_above_tolerance,
    size_of,
    staging_directory,
)
from keras_siamim.files import write_atomically
from keras_siamim.ops.pooling import check_pooling
from keras_siamim.types import PathLike, Size

WEIGHTS_DTYPES = ("float32", "bfloat16", "float16")


def export_saved_model(
    model: keras.Model,
    directory: PathLike,
    version: int | None = None,
    head: keras.layers.Layer | None = None,
    pooling: str | None = None,
    image_size: Size | None = None,
    crop_fraction: float | None = None,
    weights_dtype: str = "float32",
) -> Export:
    """Export an encoder or a classifier as a SavedModel, which needs TensorFlow alone to load.

    The graph resizes, crops and normalizes images. It has these signatures:

    | name | input | outputs |
    |---|---|---|
    | `serving_default` | `images` (batch, height, width, 3) uint8 in [0, 255], any size | all |
    | `image_bytes` | `image_bytes` (batch,) string: JPEG, PNG, GIF, BMP or WebP files | all |
    | `tokens` | `images` (batch, *image_size, 3) float32, normalized | `tokens` (batch, 1 + patches, width) |

    All outputs are `class_token` (if the encoder has one) and `pooled` (batch, width), `patch_tokens` (batch, patches,
    width) and, with a head,
    `logits` and `probabilities` (batch, classes). They are float32.

    On JAX and PyTorch, a new process rebuilds the model under TensorFlow and exports it. The export compares the
    outputs of the written file with those of `model` on the active backend. A version is written to a staging
    directory and renamed when it is complete, so a server that watches `directory` never loads part of a model. Each
    version has warm-up requests for the server; `batching_parameters.txt` is written next to the versions.

    Args:
        model: `ViTEncoder`; an objective, whose encoder is exported; a `Classifier`, exported with its head; or another
            serializable Keras model from normalized images to tokens (batch, 1 + patches, width).
        directory: String or path. Directory of the versions; its name is the model's name.
        version: Integer of at least 1. Defaults to the next one.
        head: Built Keras layer from `pooled` to logits. Defaults to a classifier's own, else to none.
        pooling: `"mean"` of the patch tokens or the class `"token"`. Defaults to a classifier's own, else to
            `"mean"`.
        image_size: Integer or (height, width) in pixels. Input size of the encoder. Defaults to the size that it was
            built for.
        crop_fraction: Float in (0, 1]. Images are resized to cover a frame of `image_size / crop_fraction`, then
            cropped at the center. Defaults to the behavior of `evaluation_batches`: 0.875 (resize 256, crop 224), and
            no change to images of exactly `image_size`.
        weights_dtype: `"float32"`, or `"bfloat16"` or `"float16"` for half the file size. Computation is in float32.
            Defaults to `"float32"`.

    Returns:
        An `Export`.

    Raises:
        ValueError: If an argument is out of range, or if the version exists.
        RuntimeError: If the export's outputs differ from Keras's by more than 1e-4 of the largest magnitude.
    """
    directory = Path(directory)
    encoder, head, pooling = components(model, head, pooling)
    check_pooling(pooling)
    if weights_dtype not in WEIGHTS_DTYPES:
        raise ValueError(f"`weights_dtype` must be one of {WEIGHTS_DTYPES}. Received: {weights_dtype!r}.")
    if crop_fraction is not None and not 0 < crop_fraction <= 1:
        raise ValueError(f"`crop_fraction` must be above 0 and at most 1. Received: {crop_fraction}.")
    if head is not None and not head.built:
        raise ValueError(f"`head` must be built. Received: {head.name!r}, which has no weights yet.")
    check_version(directory, version)
    image_size = image_size or getattr(encoder, "image_size", None)
    if image_size is None:
        raise ValueError(
            f"`image_size` must be given for a model without this attribute. Received: None for a "
            f"{type(encoder).__name__}."
        )
    size = height_and_width("image_size", image_size)
    settings = {
        "directory": str(directory.absolute()),
        "version": version,
        "pooling": pooling,
        "image_size": size,
        "crop_fraction": crop_fraction,
        "weights_dtype": weights_dtype,
    }
    encoder, head = to_float32(encoder), to_float32(head)
    reference = keras_outputs(encoder, head, pooling, size)
    if keras.config.backend() == "tensorflow":
        return write_version(encoder, head, reference, settings)
    return _write_in_new_process(encoder, head, reference, settings)


def write_version(
    encoder: keras.Model,
    head: keras.layers.Layer | None,
    reference: dict[str, np.ndarray],
    settings: dict[str, Any],
) -> Export:
    """Write, compare and publish a version. Needs Keras on TensorFlow.

    Args:
        encoder: Float32 Keras model, see `export_saved_model`.
        head: Float32 Keras layer or None, see `export_saved_model`.
        reference: Dictionary of arrays by output name. Keras's outputs for the probe images on the original backend.
        settings: Dictionary of the remaining arguments of `export_saved_model`.

    Returns:
        An `Export`.

    Raises:
        ValueError: If the version exists.
        RuntimeError: If outputs differ by more than 1e-4 of the largest magnitude.
    """
    from keras_siamim.data.images import preprocessing
    from keras_siamim.export import serving, warmup

    directory, image_size = Path(settings["directory"]), tuple(settings["image_size"])
    fraction = settings["crop_fraction"]
    frame = None if fraction is None else preprocessing.frame_of(image_size, fraction)
    build = {"pooling": settings["pooling"], "image_size": image_size, "frame": frame}
    with staging_directory(directory) as staging:
        probe = ("serving_default", "images", probe_images(image_size))
        served = serving.ServedModel(encoder, head, weights_dtype="float32", **build)
        error = largest_difference(_probe_outputs(served, probe[2]), reference)
        refuse_above_tolerance(error)
        if settings["weights_dtype"] != "float32":
            served = serving.ServedModel(encoder, head, weights_dtype=settings["weights_dtype"], **build)
        served.save(staging)
        written = serving.run_signature(staging, probe)
        expected = {name: value.numpy() for name, value in served.signatures["serving_default"](probe[2]).items()}
        refuse_above_tolerance(
            largest_difference(written, expected), "the outputs of the written file must equal the graph's"
        )
        warmup.write_warmup_requests(staging, directory.name, image_size)
        (staging / "assets.extra" / "preprocessing.json").write_text(
            json.dumps({"image_size": image_size, "frame": frame})
        )
        path = publish(staging, directory, settings["version"])
    parameters = directory / "batching_parameters.txt"
    if not parameters.exists():
        with write_atomically(parameters) as file:
            file.write(warmup.batching_parameters().encode())
    return Export(path, error, largest_difference(_probe_outputs(served, probe[2]), reference), size_of(path))


def _probe_outputs(served, images):
    # Not by a signature, because resizing is no part of the Keras model.
    return {name: value.numpy() for name, value in served.outputs(images).items()}


def _modules_of(config):
    """Return the modules that register a serialized model's classes, for another process to import.

    Raises:
        ValueError: If a class belongs to the running program, which another process cannot import.
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
            "`model` must consist of classes that another process can import, unless Keras runs on TensorFlow. "
            f"Received: {config['class_name']}, which the running program defines; move it to a module."
        )
    if isinstance(module, str) and module.split(".")[0] not in ("keras", "keras_siamim", "builtins"):
        found.append(module)
    return list(dict.fromkeys(found))


def _write_in_new_process(encoder, head, reference, settings):
    """Run `write_version` in a new process whose Keras runs on TensorFlow."""
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
        return export_under_tensorflow("keras_siamim.export.worker", folder)
