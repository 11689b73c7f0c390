"""Diagnosis of non-finite values in a training step."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_siamim.layers.nested import nested_layers
from keras_siamim.objectives import Objective
from keras_siamim.optimizers import GradientKeepingAdamW


def first_bad_tensor(model: Objective, batch: Mapping[str, Any]) -> str:
    """Return the name of the first tensor of a training step that contains a non-finite value.

    The function checks the batch, the weights, the outputs of all layers, the loss terms and the gradients, in this
    order. It repeats the step on a copy of the model, with other random samples for stochastic depth.

    Args:
        model: Built objective.
        batch: Dictionary of arrays or tensors. Training batch of the step.

    Returns:
        A sentence.
    """
    batch = model.prepare_batch({name: np.asarray(value) for name, value in batch.items()})
    batch = {name: ops.convert_to_numpy(value) for name, value in batch.items()}
    for name, value in batch.items():
        if _is_bad(value):
            return f"The batch's {name!r} {_describe(value)}."
    for variable in model.variables:
        if _is_bad(variable):
            return f"The weight {variable.path} {_describe(variable)}."
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    outputs: dict[str, np.ndarray] = {}
    layers = _watched(copy, outputs)
    terms = copy.loss_terms(copy(batch, training=True))
    for layer in layers:
        del layer.call
    for path, value in outputs.items():
        return f"The output of the layer {path} {_describe(value)}."
    for name, value in terms.items():
        if _is_bad(value):
            return f"The loss term {name!r} {_describe(value)}."
    return _first_bad_gradient(copy, batch)


def _watched(model, found):
    # Wrap all layers, so that the first non-finite output of each goes into `found`. Inner layers finish first, so they
    # come first.
    layers = [layer for layer in nested_layers(model) if not isinstance(layer, keras.Metric)]
    for layer in layers:

        def call(*args, inner=layer.call, path=layer.path, **kwargs):
            outputs = inner(*args, **kwargs)
            for value in keras.tree.flatten(outputs):
                if path not in found and _is_bad(value):
                    found[path] = ops.convert_to_numpy(value)
            return outputs

        layer.call = call
    return layers


def _first_bad_gradient(model, batch):
    optimizer = GradientKeepingAdamW(learning_rate=0.0)
    model.compile(optimizer, run_eagerly=True)
    model.train_on_batch(batch)
    # Backpropagation starts at the loss, and most weights were created in the order in which they are used.
    for variable, gradient in zip(reversed(model.trainable_variables), reversed(optimizer.gradients), strict=True):
        if _is_bad(gradient):
            return f"The gradient of {variable.path} {_describe(gradient)}."
    return "Repeated without loss scaling, all values of the step are finite."


def _is_bad(value):
    value = ops.convert_to_numpy(value)
    return value.dtype.kind not in "biuSO" and not np.isfinite(value.astype("float32")).all()


def _describe(value):
    value = ops.convert_to_numpy(value).astype("float32")
    return f"has {np.count_nonzero(~np.isfinite(value))} non-finite values of {value.size}"
