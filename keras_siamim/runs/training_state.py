"""Everything that the next training step depends on, as NumPy arrays, the same on every backend.

Weights of both branches, what normalizations and seed generators count, the optimizer's moments and counters, and the
running means of the epoch's losses. Arrays are found again by their place in the order of a model's variables, since
Keras numbers names by what else a process has built; the names are there for people.
"""

import numpy as np
from keras import ops

# The groups of variables, in the order in which they are restored.
MODEL, OPTIMIZER, METRICS = "model", "optimizer", "metrics"


def training_state(model, groups=(MODEL, OPTIMIZER, METRICS)):
    """The state of a compiled model, copied to the host.

    Args:
        model: A compiled, built Keras model.
        groups: Which groups of variables.

    Returns:
        Arrays by `group/number/path`. Floats narrower than float32 are float32, which holds them exactly.
    """
    return {
        f"{group}/{number:05d}/{variable.path}": _copy(variable)
        for group, variables in _groups(model).items()
        if group in groups
        for number, variable in enumerate(variables)
    }


def restore(model, arrays, groups=(MODEL, OPTIMIZER, METRICS)):
    """Set a compiled model to a state that `training_state` gave, of this or another process, device or backend.

    Args:
        model: A compiled, built Keras model.
        arrays: Arrays by `group/number/path`.
        groups: Which groups to set.

    Raises:
        ValueError: If the state is that of another model or optimizer; nothing is set then.
    """
    found = {group: [] for group in groups}
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
                f"The checkpoint must hold this model's {len(variables)} variables of the {group}. "
                f"It holds {len(found[group])}."
            )
        for variable, (path, array) in zip(variables, found[group], strict=True):
            if tuple(variable.shape) != array.shape:
                raise ValueError(
                    f"The checkpoint must fit the {group}: {variable.path} has the shape {tuple(variable.shape)}. "
                    f"Received: {path} of the shape {array.shape}."
                )
            pairs.append((variable, array))
    for variable, array in pairs:
        # Seeds are kept as uint32, int32 or int64, depending on the backend; their bits are what counts.
        variable.assign(array.astype(np.dtype(variable.dtype)) if array.dtype.kind in "iu" else array)


def _groups(model):
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return {MODEL: model.variables, OPTIMIZER: model.optimizer.variables, METRICS: model.metrics_variables}


def _copy(variable):
    array = np.array(ops.convert_to_numpy(variable))  # a copy: the next step may write where the variable lies
    narrow_float = array.dtype.kind not in "biu" and array.dtype.itemsize < 4
    return array.astype("float32") if narrow_float else array
