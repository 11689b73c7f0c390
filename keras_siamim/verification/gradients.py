"""The gradients of a training step against recorded ones."""

from keras import ops

from keras_siamim.convert.names import Slot, to_keras
from keras_siamim.verification.report import Row, relative_error

NOISE = 1e-6


def gradient_rows(model, table, recorded, prefix=""):
    """Worst gradient of the last step, relative to the largest recorded entry of its own tensor.

    A tensor that is all rounding noise has no size of its own to compare with: the gradient of a bias that the next
    BatchNorm takes away (MoCo v3's last `norm.bias`) is zero but for rounding. Tensors that nowhere reach `NOISE` of
    the step's largest gradient get a row of their own, relative to that largest gradient.

    Args:
        model: Compiled with `GradientKeepingAdamW` and trained by one step.
        table: Its name table.
        recorded: Gradients by PyTorch name, of exactly the weights that are trained.
        prefix: Written before the quantity.

    Raises:
        ValueError: If other weights are trained than recorded.
    """
    kept = {id(v): g for v, g in zip(model.trainable_variables, model.optimizer.gradients, strict=True)}
    trained = {name for name, slot in table.items() if id(slot.variable) in kept}
    if trained != set(recorded):
        raise ValueError(f"Trained weights differ from the recorded ones: {sorted(trained ^ set(recorded))}.")
    largest = max(abs(gradient).max() for gradient in recorded.values())
    errors, vanishing = {}, {}
    for name, gradient in recorded.items():
        slot = Slot(kept[id(table[name].variable)], table[name].layout)
        ours, gradient = ops.convert_to_numpy(slot.variable), to_keras(gradient, slot)
        if abs(gradient).max() < NOISE * largest:
            vanishing[name] = relative_error(ours, gradient, largest)
        else:
            errors[name] = relative_error(ours, gradient)
    worst = max(errors, key=errors.get)
    rows = [Row(f"{prefix}{len(errors)} gradients", errors[worst], 1e-4, f"worst: {worst}")]
    if vanishing:
        note = f"of the step's largest gradient: {', '.join(vanishing)}"
        rows.append(Row(f"{prefix}{len(vanishing)} vanishing gradients", max(vanishing.values()), NOISE, note))
    return rows
