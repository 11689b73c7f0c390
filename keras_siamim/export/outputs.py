"""What an export gives for normalized images: one function for Keras and the graph, so that they can be compared."""

import keras
import numpy as np
from keras import ops

from keras_siamim.batch import IMAGENET_MEAN, IMAGENET_STD
from keras_siamim.evaluation.classifier import Classifier
from keras_siamim.objectives.base import Objective, pool_tokens

PROBE_IMAGES = 3


def parts(model, head=None, pooling=None):
    """What an export is made of: (encoder, head or None, pooling), from an encoder, an objective or a classifier."""
    if isinstance(model, Classifier):
        own_head = keras.Sequential([model.head_norm, model.head])
        own_head.build((None, model.head.kernel.shape[0]))
        return model.encoder, head or own_head, pooling or model.pooling
    return model.encoder if isinstance(model, Objective) else model, head, pooling or "mean"


def probe_images(image_size):
    """The images that both sides are compared on: (3, *image_size, 3) uint8, always the same."""
    return np.random.default_rng(0).integers(0, 256, (PROBE_IMAGES, *image_size, 3), "uint8")


def keras_outputs(encoder, head, pooling, image_size):
    """What Keras gives for the probe images on the backend at hand, as NumPy arrays by name."""
    images = (probe_images(image_size).astype("float32") / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
    outputs = named_outputs(encoder, head, pooling, ops.convert_to_tensor(images))
    return {name: ops.convert_to_numpy(value) for name, value in outputs.items()}


def named_outputs(encoder, head, pooling, images):
    """All outputs of an export.

    Args:
        encoder: Images to tokens (batch, 1 + patches, width).
        head: Pooled features to logits, or None.
        pooling: `"mean"` of the patch tokens or the class `"token"`.
        images: (batch, height, width, 3) float32, normalized.

    Returns:
        Dictionary of tensors: `class_token` and `pooled` (batch, width), `patch_tokens` (batch, patches, width); with a
        head `logits` and `probabilities` (batch, classes).
    """
    if getattr(encoder, "data_format", "channels_last") == "channels_first":
        images = ops.transpose(images, (0, 3, 1, 2))
    tokens = encoder(images, training=False)
    outputs = {"class_token": tokens[:, 0], "patch_tokens": tokens[:, 1:], "pooled": pool_tokens(tokens, pooling)}
    if head is not None:
        outputs["logits"] = head(outputs["pooled"], training=False)
        outputs["probabilities"] = ops.softmax(outputs["logits"])
    return outputs


def largest_difference(outputs, reference):
    """Largest difference over all outputs, each relative to its largest magnitude; NaN where there is one.

    Raises:
        RuntimeError: If the two have not the same names and shapes.
    """
    shapes = [{name: np.shape(value) for name, value in side.items()} for side in (outputs, reference)]
    if shapes[0] != shapes[1]:
        raise RuntimeError(f"The export is refused: its outputs {shapes[0]} are not the expected {shapes[1]}.")
    differences = [
        np.abs(outputs[name] - value).max() / max(np.abs(value).max(), 1e-30) for name, value in reference.items()
    ]
    return float(np.max(differences))


def in_float32(model):
    """The model, or where a policy in it computes or stores in another dtype a float32 copy of it, weights included."""
    config = None if model is None else keras.saving.serialize_keras_object(model)
    converted = _in_float32(config)
    if converted == config:
        return model
    copy = keras.saving.deserialize_keras_object(converted)
    for variable, original in zip(copy.weights, model.weights, strict=True):
        variable.assign(ops.cast(original, "float32"))
    return copy


def _in_float32(config):
    """A serialized object with every dtype policy in it set to float32."""
    if isinstance(config, (list, tuple)):
        return type(config)(_in_float32(value) for value in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return {**config, "config": {**config["config"], "name": "float32"}}
    return {key: _in_float32(value) for key, value in config.items()}
