"""Traversal of nested layers."""

import keras


def nested_layers(layer: keras.Layer) -> list[keras.Layer]:
    """Return all layers inside a layer or model, at any depth, inner ones after the ones that contain them.

    Example:
        >>> from keras_siamim.layers.nested import nested_layers
        >>> [layer.name for layer in nested_layers(keras.Sequential([keras.layers.Dense(2, name="head")]))]
        ['head']
    """
    # Keras has no public name for this: `Model.layers` holds the first level only.
    return list(layer._flatten_layers(include_self=False))
