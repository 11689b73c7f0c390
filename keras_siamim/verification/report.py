"""Report of errors: one row per quantity."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_siamim.types import ArrayLike, Tensor


class Row(NamedTuple):
    """Worst error of a quantity and its tolerance.

    Attributes:
        quantity: String. Name of the quantity.
        error: Float. Worst error.
        tolerance: Float. Largest error that passes.
        note: String. Unit of both numbers, or a remark. Defaults to an empty one.

    Example:
        >>> Row("loss", 2e-6, 1e-5).passed
        True
    """

    quantity: str
    error: float
    tolerance: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """True if the error is at most the tolerance; NaN fails."""
        return bool(self.error <= self.tolerance)


def relative_error(value: ArrayLike, recorded: ArrayLike, scale: float | None = None) -> float:
    """Return the largest difference of two arrays, divided by the largest magnitude of the recorded one.

    Args:
        value: Array of the recorded shape.
        recorded: Array. The reference values.
        scale: Float. Divisor. Defaults to the largest magnitude in `recorded`.

    Returns:
        Float; 0.0 for empty arrays.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> relative_error([4.0, 1.0], [4.0, 2.0])
        0.25
    """
    value, recorded = np.asarray(value, dtype="float64"), np.asarray(recorded, dtype="float64")
    if value.shape != recorded.shape:
        raise ValueError(f"`value` must have the recorded shape {recorded.shape}. Received: {value.shape}.")
    if not value.size:
        return 0.0
    scale = np.abs(recorded).max() if scale is None else scale
    return float(np.abs(value - recorded).max() / max(scale, 1e-30))


def error_row(name: str, value: Tensor, recorded: ArrayLike, tolerance: float) -> Row:
    """Return the row of the relative error of a tensor.

    Args:
        name: String. Name of the quantity.
        value: Tensor of any backend, or array.
        recorded: Array. The reference values.
        tolerance: Float. Largest error that passes.

    Example:
        >>> error_row("loss", np.ones(()), np.ones(()), 1e-5).passed
        True
    """
    return Row(name, relative_error(ops.convert_to_numpy(value), recorded), tolerance)


def format_report(title: str, rows: Sequence[Row]) -> str:
    """Format rows as a text table that ends with the number of passed rows.

    Args:
        title: String. First line of the table.
        rows: Sequence of `Row`, at least one.

    Example:
        >>> print(format_report("digits.npz", [Row("loss", 2e-6, 1e-5)]))
        digits.npz
          quantity  worst error  tolerance  result
          loss     2.00e-06      1e-05  pass
          1 of 1 passed
    """
    width = max(len(row.quantity) for row in rows)
    lines = [title, f"  {'quantity':<{width}}  {'worst error':>11}  {'tolerance':>9}  result"]
    for row in rows:
        verdict = "pass" if row.passed else "FAIL"
        lines.append(
            f"  {row.quantity:<{width}}  {row.error:>11.2e}  {row.tolerance:>9.0e}  {verdict}  {row.note}".rstrip()
        )
    lines.append(f"  {sum(row.passed for row in rows)} of {len(rows)} passed")
    return "\n".join(lines)
