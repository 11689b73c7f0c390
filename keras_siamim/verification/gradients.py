"""Comparison of a training step's gradients with recorded ones."""

import keras
import numpy as np
from keras import ops

from keras_siamim.convert.names import NameTable, Slot, to_keras
from keras_siamim.verification.report import Row, relative_error

NOISE = 1e-6


def gradient_rows(
    model: keras.Model,
    table: NameTable,
    recorded: dict[str, np.ndarray],
    prefix: str = "",
    tolerance: float = 1e-4,
) -> list[Row]:
    """Compare the gradients of the last step with recorded ones.

    The error of a tensor is relative to its largest recorded entry. Tensors below `NOISE` of the step's largest
    gradient get a row of their own, relative to that largest gradient.

    Args:
        model: Keras model, compiled with `GradientKeepingAdamW` and trained by one step.
        table: Name table of the model.
        recorded: Dictionary of gradients by PyTorch name, for exactly the trained weights.
        prefix: String. First part of each row's title. Defaults to an empty one.
        tolerance: Float. Largest error that passes. Defaults to 1e-4.

    Returns:
        List of one or two `Row`.

    Raises:
        ValueError: If the trained weights differ from the recorded ones.
    """
    # MoCo v3's last `norm.bias` has gradients of pure rounding noise, because the next BatchNorm removes its effect.
    # Such a tensor has no scale of its own.
    kept = {id(v): g for v, g in zip(model.trainable_variables, model.optimizer.gradients, strict=True)}
    trained = {name for name, slot in table.items() if id(slot.variable) in kept}
    if trained != set(recorded):
        raise ValueError(
            f"`recorded` must hold the gradients of exactly the trained weights. Received: a difference in "
            f"{sorted(trained ^ set(recorded))}."
        )
    largest = max(abs(gradient).max() for gradient in recorded.values())
    errors, vanishing = {}, {}
    for name, gradient in recorded.items():
        slot = Slot(kept[id(table[name].variable)], table[name].layout)
        value, gradient = ops.convert_to_numpy(slot.variable), to_keras(gradient, slot)
        if abs(gradient).max() < NOISE * largest:
            vanishing[name] = relative_error(value, gradient, largest)
        else:
            errors[name] = relative_error(value, gradient)
    worst = max(errors, key=lambda name: errors[name])
    rows = [Row(f"{prefix}{len(errors)} gradients", errors[worst], tolerance, f"worst: {worst}")]
    if vanishing:
        note = f"of the step's largest gradient: {', '.join(vanishing)}"
        rows.append(Row(f"{prefix}{len(vanishing)} vanishing gradients", max(vanishing.values()), NOISE, note))
    return rows
