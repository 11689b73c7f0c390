"""What became of every name of a weight file, and the assignment itself: all or nothing."""

from typing import NamedTuple

from keras_siamim.convert.names import to_keras


class Report(NamedTuple):
    """What became of a file's names.

    Attributes:
        used: Names of the file that set a weight, or that a fixed table of ours was checked against.
        skipped: Reason by name of the file.
        missing: Names that the model wants and the file lacks.
    """

    used: tuple
    skipped: dict
    missing: tuple

    def __str__(self):
        lines = [f"{len(self.used)} used, {len(self.skipped)} skipped, {len(self.missing)} missing"]
        lines += [f"  used     {name}" for name in self.used]
        lines += [f"  skipped  {name}: {reason}" for name, reason in self.skipped.items()]
        lines += [f"  missing  {name}" for name in self.missing]
        return "\n".join(lines)


def assign(table, weights, allow_missing=False):
    """Set weights by a name table, after all of them were found to fit.

    Args:
        table: Slots by name, see `keras_siamim.convert.names`.
        weights: Arrays by name; those that the table doesn't know are left alone.
        allow_missing: Whether weights that the file lacks keep their values.

    Returns:
        Names set, and names missing.

    Raises:
        ValueError: For every array that doesn't fit, with both shapes; or for missing ones.
    """
    converted, misfits = {}, []
    for name in table.keys() & weights.keys():
        try:
            converted[name] = to_keras(weights[name], table[name])
        except ValueError as error:
            misfits.append(f"{name}: {error}")
    if misfits:
        raise ValueError("The weights do not fit the model; nothing was changed.\n" + "\n".join(sorted(misfits)))
    missing = tuple(name for name in table if name not in weights)
    if missing and not allow_missing:
        raise ValueError(f"The file lacks {len(missing)} weights of the model; nothing was changed: {list(missing)}.")
    for name, array in converted.items():
        table[name].variable.assign(array)
    return tuple(name for name in table if name in converted), missing
