"""The recorded ViT classifier, rebuilt from the recorded configuration and weights."""

import re
from pathlib import Path

import numpy as np

from keras_siamim import ViTEncoder
from keras_siamim.evaluation.classifier import Classifier

RECORDED = np.load(Path(__file__).parents[1] / "reference" / "backbone.npz")

_NAMES = {
    "class_token/token": "cls_token",
    "patch_embedding/kernel": "patch_embed.proj.weight",
    "patch_embedding/bias": "patch_embed.proj.bias",
    "head_norm/gamma": "fc_norm.weight",
    "head_norm/beta": "fc_norm.bias",
    "head/kernel": "head.weight",
    "head/bias": "head.bias",
}
_PARTS = {
    "norm_1": "norm1",
    "norm_2": "norm2",
    "attention/qkv": "attn.qkv",
    "attention/projection": "attn.proj",
    "mlp/expand": "mlp.fc1",
    "mlp/reduce": "mlp.fc2",
}


def recorded_name(path):
    """Return the recorded name of the weight with this Keras path."""
    block = re.search(r"block_(\d+)/(.+)/(\w+)$", path)
    if block:
        kind = "bias" if block[3] in ("bias", "beta") else "weight"
        return f"blocks.{block[1]}.{_PARTS[block[2]]}.{kind}"
    return next(name for end, name in _NAMES.items() if path.endswith("/" + end))


def recorded_classifier():
    """Return the classifier with the recorded configuration and weights."""
    config = {
        key: int(RECORDED[f"config/{key}"]) for key in ("image_size", "patch_size", "width", "depth", "num_heads")
    }
    classifier = Classifier(ViTEncoder(**config), int(RECORDED["config/num_classes"]))
    classifier.build((None, config["image_size"], config["image_size"], 3))
    for weight in classifier.weights:
        value = RECORDED["weights/" + recorded_name(weight.path)]
        if value.ndim == 4:
            value = value.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
        elif value.ndim == 2:
            value = value.T
        weight.assign(value)
    return classifier
