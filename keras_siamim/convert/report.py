"""Assignment of weights by name, and its report."""

from typing import NamedTuple

import numpy as np

from keras_siamim.convert.names import NameTable, to_keras


class Report(NamedTuple):
    """Names of a weight file by their use.

    Attributes:
        used: Tuple of names that set a weight, or that equal a fixed table of the model.
        skipped: Dictionary of reasons by name.
        missing: Tuple of names that the model has and the file lacks.

    Example:
        >>> print(Report(("cls_token",), {"head.bias": "not part of the encoder"}, ()))
        1 used, 1 skipped, 0 missing
          used     cls_token
          skipped  head.bias: not part of the encoder
    """

    used: tuple[str, ...]
    skipped: dict[str, str]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.used)} used, {len(self.skipped)} skipped, {len(self.missing)} missing"]
        lines += [f"  used     {name}" for name in self.used]
        lines += [f"  skipped  {name}: {reason}" for name, reason in self.skipped.items()]
        lines += [f"  missing  {name}" for name in self.missing]
        return "\n".join(lines)


def assign(
    table: NameTable, weights: dict[str, np.ndarray], allow_missing: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Assign weights by a name table, once all of them are known to fit.

    Args:
        table: Name table, see `keras_siamim.convert.names`.
        weights: Dictionary of arrays by name. Names that the table lacks are ignored.
        allow_missing: Boolean. If True, variables that `weights` lacks keep their values. Defaults to False.

    Returns:
        Tuple of the names assigned and the names missing.

    Raises:
        ValueError: With all arrays that do not fit, or with the missing names. No variable is changed.

    Example:
        >>> from keras_siamim.convert.names import Slot
        >>> assign({"norm.bias": Slot(keras.Variable(np.zeros(3)))}, {"norm.bias": np.ones(3, "float32")})
        (('norm.bias',), ())
    """
    converted, misfits = {}, []
    for name in table.keys() & weights.keys():
        try:
            converted[name] = to_keras(weights[name], table[name])
        except ValueError as error:
            misfits.append(f"{name}: {error}")
    if misfits:
        listed = "\n".join(sorted(misfits))
        raise ValueError(f"`weights` must fit the model, which was left unchanged. Received:\n{listed}")
    missing = tuple(name for name in table if name not in weights)
    if missing and not allow_missing:
        raise ValueError(
            f"`weights` must hold every weight of the model, which was left unchanged. Received: a file without "
            f"{list(missing)}."
        )
    for name, array in converted.items():
        table[name].variable.assign(array)
    return tuple(name for name in table if name in converted), missing
