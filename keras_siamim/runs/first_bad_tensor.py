"""Which number went wrong first."""

import keras
import numpy as np
from keras import ops

from keras_siamim.layers.nested import nested_layers
from keras_siamim.optimizers import GradientKeepingAdamW


def first_bad_tensor(model, batch):
    """Name the first tensor of a training step that holds a number that is not finite.

    Looks at the batch, the weights, what every layer gives on the way, the terms of the loss, and the gradients, in
    this order. Works on a copy; draws of dropped paths are those of another step.

    Args:
        model: An objective.
        batch: The training batch to look at.

    Returns:
        A sentence.
    """
    batch = {name: np.asarray(value) for name, value in batch.items()}
    for name, value in batch.items():
        if _bad(value):
            return f"The batch's {name!r} {_how(value)}."
    for variable in model.variables:
        if _bad(variable):
            return f"The weight {variable.path} {_how(variable)}."
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    outputs = {}
    layers = _watched(copy, outputs)
    terms = copy.loss_terms(copy(batch, training=True))
    for layer in layers:
        del layer.call
    for path, value in outputs.items():
        return f"The output of the layer {path} {_how(value)}."
    for name, value in terms.items():
        if _bad(value):
            return f"The loss term {name!r} {_how(value)}."
    return _first_bad_gradient(copy, batch)


def _watched(model, found):
    # Every layer's first bad output goes into `found`; layers inside others come first, as they finish first.
    layers = [layer for layer in nested_layers(model) if not isinstance(layer, keras.Metric)]
    for layer in layers:

        def call(*args, inner=layer.call, path=layer.path, **kwargs):
            outputs = inner(*args, **kwargs)
            for value in keras.tree.flatten(outputs):
                if path not in found and _bad(value):
                    found[path] = ops.convert_to_numpy(value)
            return outputs

        layer.call = call
    return layers


def _first_bad_gradient(model, batch):
    optimizer = GradientKeepingAdamW(learning_rate=0.0)
    model.compile(optimizer, run_eagerly=True)
    model.train_on_batch(batch)
    # Gradients are made from the loss backwards, and most weights were created in the order in which they are used.
    for variable, gradient in zip(reversed(model.trainable_variables), reversed(optimizer.gradients), strict=True):
        if _bad(gradient):
            return f"The gradient of {variable.path} {_how(gradient)}."
    return "Computed once more without loss scaling, every number of that step is finite."


def _bad(value):
    value = ops.convert_to_numpy(value)
    return value.dtype.kind not in "biuSO" and not np.isfinite(value.astype("float32")).all()


def _how(value):
    value = ops.convert_to_numpy(value).astype("float32")
    return f"has {np.count_nonzero(~np.isfinite(value))} numbers of {value.size} that are not finite"
