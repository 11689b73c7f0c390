"""Settings and weights of a recording."""

import numpy as np

from keras_siamim.backbones import ViTEncoder
from keras_siamim.convert.names import to_keras
from keras_siamim.ops import sincos_position_table


def section(recording, prefix):
    """The entries below `prefix/`, without it."""
    return {key[len(prefix) + 1 :]: value for key, value in recording.items() if key.startswith(prefix + "/")}


def config_of(recording):
    """Entries below `config/` as Python values: numbers, texts and, where an entry has several, tuples."""
    entries = section(recording, "config").items()
    return {key: tuple(value.tolist()) if value.ndim else value.item() for key, value in entries}


def encoder_of(config, **settings):
    """The encoder that a recording's settings describe; `settings` are the `ViTEncoder` arguments of its method."""
    sizes = {name: config[name] for name in ("image_size", "patch_size", "width", "depth", "num_heads")}
    return ViTEncoder(**sizes, **settings)


def load_weights(table, weights, positions=()):
    """Assign recorded weights by a name table.

    Args:
        table: Name table, see `keras_siamim.convert.names`.
        weights: Recorded arrays by PyTorch name.
        positions: (name, grid, axis_order) of recorded position embeddings, which must equal our tables.

    Raises:
        ValueError: If a weight of either side has no partner, does not fit, or if positions differ.
    """
    names = {name for name, _, _ in positions}
    unknown, missing = set(weights) - set(table) - names, set(table) - set(weights)
    if unknown or missing:
        raise ValueError(f"Weights without a partner: recorded {sorted(unknown)}, ours {sorted(missing)}.")
    for name, slot in table.items():
        try:
            slot.variable.assign(to_keras(weights[name], slot))
        except ValueError as error:
            raise ValueError(f"{name}: {error}.") from None
    for name, grid, axis_order in positions:
        ours = sincos_position_table(grid, weights[name].shape[-1], axis_order)
        if not np.allclose(weights[name][0, 1:], ours, atol=1e-6) or np.any(weights[name][0, 0]):
            raise ValueError(f"{name} is not the sine-cosine embedding ({axis_order}) of a {grid} grid.")
