"""Outputs of an export, computed by one function for Keras and for the exported graph."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_siamim.batch import IMAGENET_MEAN, IMAGENET_STD
from keras_siamim.evaluation.classifier import Classifier
from keras_siamim.evaluation.features import in_data_format_of
from keras_siamim.objectives.base import Objective
from keras_siamim.ops.pooling import num_prefix_tokens, pool_tokens
from keras_siamim.types import Tensor

PROBE_IMAGES = 3


def components(
    model: keras.Model, head: keras.layers.Layer | None = None, pooling: str | None = None
) -> tuple[keras.Model, keras.layers.Layer | None, str]:
    """Split a model into encoder, head and pooling.

    Args:
        model: Encoder, objective or `Classifier`.
        head: Keras layer from pooled features to logits. Defaults to a classifier's own, else to None.
        pooling: `"mean"` or `"token"`. Defaults to a classifier's own, else to `"mean"`.

    Returns:
        Tuple (encoder, head or None, pooling).

    Example:
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=1, num_heads=1)
        >>> components(encoder)[1:]
        (None, 'mean')
    """
    if isinstance(model, Classifier):
        own_head = keras.Sequential([model.head_norm, model.head])
        own_head.build((None, model.head.kernel.shape[0]))
        return model.encoder, head or own_head, pooling or model.pooling
    return model.encoder if isinstance(model, Objective) else model, head, pooling or "mean"


def probe_images(image_size: tuple[int, int]) -> np.ndarray:
    """Return the fixed random images on which Keras and an export are compared.

    Args:
        image_size: (height, width) in pixels.

    Returns:
        (3, height, width, 3) uint8.

    Example:
        >>> probe_images((16, 24)).shape
        (3, 16, 24, 3)
    """
    return np.random.default_rng(0).integers(0, 256, (PROBE_IMAGES, *image_size, 3), "uint8")


def keras_outputs(
    encoder: keras.Model, head: keras.layers.Layer | None, pooling: str, image_size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Compute the outputs of Keras for the probe images on the active backend.

    Args:
        encoder: Keras model from images to tokens (batch, 1 + patches, width).
        head: Keras layer from pooled features to logits, or None.
        pooling: `"mean"` or `"token"`.
        image_size: (height, width) of the encoder in pixels.

    Returns:
        Dictionary of arrays by output name, see `named_outputs`.

    Example:
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=1, num_heads=1)
        >>> keras_outputs(encoder, None, "mean", (16, 16))["pooled"].shape
        (3, 8)
    """
    images = (probe_images(image_size).astype("float32") / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
    outputs = named_outputs(encoder, head, pooling, ops.convert_to_tensor(images))
    return {name: ops.convert_to_numpy(value) for name, value in outputs.items()}


def named_outputs(
    encoder: keras.Model, head: keras.layers.Layer | None, pooling: str, images: Tensor
) -> dict[str, Tensor]:
    """Compute all outputs of an export.

    Args:
        encoder: Keras model from images to tokens (batch, 1 + patches, width).
        head: Keras layer from pooled features to logits, or None.
        pooling: `"mean"` of the patch tokens or the class `"token"`.
        images: (batch, height, width, 3) float32, normalized.

    Returns:
        Dictionary of tensors: `class_token` and `pooled` (batch, width), `patch_tokens` (batch, patches, width); no
        `class_token` if the encoder has none. With a head, also `logits` and `probabilities` (batch, classes).

    Example:
        >>> encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=1, num_heads=1)
        >>> list(named_outputs(encoder, None, "mean", keras.ops.zeros((1, 16, 16, 3))))
        ['class_token', 'patch_tokens', 'pooled']
    """
    tokens = encoder(in_data_format_of(encoder, images), training=False)
    prefix = num_prefix_tokens(encoder)
    outputs = {"class_token": tokens[:, 0]} if prefix else {}
    outputs |= {"patch_tokens": tokens[:, prefix:], "pooled": pool_tokens(tokens, pooling, prefix)}
    if head is not None:
        outputs["logits"] = head(outputs["pooled"], training=False)
        outputs["probabilities"] = ops.softmax(outputs["logits"])
    return outputs


def largest_difference(outputs: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> float:
    """Return the largest relative difference over all outputs.

    The difference of each output is divided by the largest magnitude of its reference.

    Args:
        outputs: Dictionary of arrays by output name.
        reference: Dictionary of arrays with the same names and shapes.

    Returns:
        Float; NaN if an output has one.

    Raises:
        RuntimeError: If names or shapes differ.

    Example:
        >>> largest_difference({"pooled": np.array([4.0, 1.0])}, {"pooled": np.array([4.0, 2.0])})
        0.25
    """
    shapes = [{name: np.shape(value) for name, value in side.items()} for side in (outputs, reference)]
    if shapes[0] != shapes[1]:
        raise RuntimeError(f"The export was refused: its outputs must be {shapes[1]}. Received: {shapes[0]}.")
    differences = [
        np.abs(outputs[name] - value).max() / max(np.abs(value).max(), 1e-30) for name, value in reference.items()
    ]
    return float(np.max(differences))


def to_float32(model: Any) -> Any:
    """Return a model that computes in and stores float32.

    Args:
        model: Serializable Keras model or layer, or None.

    Returns:
        `model` itself where all its dtype policies are float32, else a copy with the same weights.

    Example:
        >>> layer = keras.layers.Dense(2, dtype="mixed_bfloat16")
        >>> layer.build((None, 3))
        >>> to_float32(layer).compute_dtype
        'float32'
    """
    config = None if model is None else keras.saving.serialize_keras_object(model)
    converted = _config_in_float32(config)
    if converted == config:
        return model
    copy = keras.saving.deserialize_keras_object(converted)
    for variable, original in zip(copy.weights, model.weights, strict=True):
        variable.assign(ops.cast(original, "float32"))
    return copy


def _config_in_float32(config):
    """Return a serialized object with every dtype policy set to float32."""
    if isinstance(config, (list, tuple)):
        return type(config)(_config_in_float32(value) for value in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return {**config, "config": {**config["config"], "name": "float32"}}
    return {key: _config_in_float32(value) for key, value in config.items()}
