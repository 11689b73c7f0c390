"""Settings and weights of a recording."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_siamim.backbones import ViTEncoder
from keras_siamim.convert.names import NameTable, to_keras
from keras_siamim.ops import sincos_position_table


def section(recording: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the entries under `prefix/`, without the prefix.

    Args:
        recording: Dictionary of arrays.
        prefix: String. First part of the keys.

    Example:
        >>> list(section({"grad/norm.bias": np.zeros(3), "loss": np.zeros(())}, "grad"))
        ['norm.bias']
    """
    return {key[len(prefix) + 1 :]: value for key, value in recording.items() if key.startswith(prefix + "/")}


def config_of(recording: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the entries under `config/` as Python numbers, strings and tuples.

    Args:
        recording: Dictionary of arrays.

    Example:
        >>> config_of({"config/image_size": np.array([32, 48]), "config/width": np.array(24)})
        {'image_size': (32, 48), 'width': 24}
    """
    entries = section(recording, "config").items()
    return {key: tuple(value.tolist()) if value.ndim else value.item() for key, value in entries}


def encoder_of(config: dict[str, Any], **settings: Any) -> ViTEncoder:
    """Build the encoder of a recording.

    Args:
        config: Dictionary of the recording's settings.
        **settings: Further arguments of `ViTEncoder`, which the recorded method fixes.

    Example:
        >>> encoder_of({"image_size": 16, "patch_size": 8, "width": 8, "depth": 1, "num_heads": 1}).width
        8
    """
    sizes = {name: config[name] for name in ("image_size", "patch_size", "width", "depth", "num_heads")}
    return ViTEncoder(**sizes, **settings)


def load_weights(
    table: NameTable, weights: dict[str, np.ndarray], positions: Sequence[tuple[str, tuple[int, int], str]] = ()
) -> None:
    """Assign recorded weights by a name table.

    Args:
        table: Name table, see `keras_siamim.convert.names`.
        weights: Dictionary of recorded arrays by PyTorch name.
        positions: Tuples (name, grid, axis_order) of recorded position embeddings, which must equal the sine-cosine
            table. Defaults to none.

    Raises:
        ValueError: If names or shapes differ from the model's, or if positions differ from the table.

    Example:
        >>> from keras_siamim.convert.names import Slot
        >>> bias = keras.Variable(np.zeros(3))
        >>> load_weights({"norm.bias": Slot(bias)}, {"norm.bias": np.ones(3)})
        >>> float(bias[0])
        1.0
    """
    names = {name for name, _, _ in positions}
    unknown, missing = set(weights) - set(table) - names, set(table) - set(weights)
    if unknown or missing:
        raise ValueError(
            f"`weights` must have the names of the model. Received: unknown {sorted(unknown)}, missing "
            f"{sorted(missing)}."
        )
    for name, slot in table.items():
        try:
            slot.variable.assign(to_keras(weights[name], slot))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    for name, grid, axis_order in positions:
        expected = sincos_position_table(grid, weights[name].shape[-1], axis_order)
        if not np.allclose(weights[name][0, 1:], expected, atol=1e-6) or np.any(weights[name][0, 0]):
            raise ValueError(
                f"`weights` must hold the sine-cosine embedding of a {grid} grid, {axis_order}. Received: another "
                f"table as {name}."
            )
