"""Complete training state as NumPy arrays, in one format for all backends.

It consists of the weights of both branches, moving averages, seeds, the moments and counters of the optimizer, and the
running means of the losses of the epoch. Arrays are identified by their index among the variables of the model. The
paths in their names are for readers only, since Keras numbers layers by the order of construction in a process.
"""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import ops

# Groups of variables, in the order in which they are restored.
MODEL, OPTIMIZER, METRICS = "model", "optimizer", "metrics"


def training_state(model: keras.Model, groups: Sequence[str] = (MODEL, OPTIMIZER, METRICS)) -> dict[str, np.ndarray]:
    """Return the training state of a model, copied to the host.

    Args:
        model: Compiled and built Keras model.
        groups: Names of groups of variables. Defaults to all.

    Returns:
        A dictionary of arrays by `group/index/path`. Floats of 8 or 16 bits are converted to float32, without loss.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> [array.shape for array in training_state(model, ["model"]).values()]
        [(3, 1), (1,)]
    """
    return {
        f"{group}/{number:05d}/{variable.path}": _copy(variable)
        for group, variables in _groups(model).items()
        if group in groups
        for number, variable in enumerate(variables)
    }


def restore(
    model: keras.Model,
    arrays: Mapping[str, np.ndarray],
    groups: Sequence[str] = (MODEL, OPTIMIZER, METRICS),
) -> None:
    """Restore the training state of a model, also from another process, device or backend.

    Args:
        model: Compiled and built Keras model.
        arrays: Dictionary from `training_state`.
        groups: Names of the groups of variables to restore. Defaults to all.

    Raises:
        ValueError: If the state is that of another model or optimizer. The model is then unchanged.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> restore(model, training_state(model))
    """
    found: dict[str, list[tuple[str, np.ndarray]]] = {group: [] for group in groups}
    for name, array in arrays.items():
        group, _, path = name.split("/", 2)
        if group in found:
            found[group].append((path, array))
    pairs = []
    for group, variables in _groups(model).items():
        if group not in found:
            continue
        if len(variables) != len(found[group]):
            raise ValueError(
                f"`arrays` must have {len(variables)} variables of the {group}. Received: {len(found[group])}."
            )
        for variable, (path, array) in zip(variables, found[group], strict=True):
            if tuple(variable.shape) != array.shape:
                raise ValueError(
                    f"`arrays` must have the shape {tuple(variable.shape)} for {variable.path} of the {group}. "
                    f"Received: {array.shape} for {path}."
                )
            pairs.append((variable, array))
    for variable, array in pairs:
        # Backends store seeds as uint32, int32 or int64. The cast keeps their bits.
        variable.assign(array.astype(np.dtype(variable.dtype)) if array.dtype.kind in "iu" else array)


def _groups(model):
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return {MODEL: model.variables, OPTIMIZER: model.optimizer.variables, METRICS: model.metrics_variables}


def _copy(variable):
    array = np.array(ops.convert_to_numpy(variable))  # a copy: the next step may reuse the variable's memory
    narrow_float = array.dtype.kind not in "biu" and array.dtype.itemsize < 4
    return array.astype("float32") if narrow_float else array
