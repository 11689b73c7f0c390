"""One row a quantity: how far ours is from the recorded number."""

from typing import NamedTuple

import numpy as np


class Row(NamedTuple):
    """Worst error of a quantity against its tolerance, both in the unit that `note` names."""

    quantity: str
    error: float
    tolerance: float
    note: str = ""

    @property
    def passed(self):
        """Whether the error is within the tolerance; NaN is not."""
        return bool(self.error <= self.tolerance)


def relative_error(value, recorded, scale=None):
    """Largest difference of two arrays over the largest magnitude of the recorded one.

    Args:
        value: Ours; must have the recorded shape.
        recorded: The recorded array.
        scale: What to divide by instead.

    Raises:
        ValueError: If the shapes differ.
    """
    value, recorded = np.asarray(value, dtype="float64"), np.asarray(recorded, dtype="float64")
    if value.shape != recorded.shape:
        raise ValueError(f"Shape {value.shape} differs from the recorded shape {recorded.shape}.")
    if not value.size:
        return 0.0
    scale = np.abs(recorded).max() if scale is None else scale
    return float(np.abs(value - recorded).max() / max(scale, 1e-30))


def format_report(title, rows):
    """Rows as a text table that ends with the count of those that passed."""
    width = max(len(row.quantity) for row in rows)
    lines = [title, f"  {'quantity':<{width}}  {'worst error':>11}  {'tolerance':>9}  result"]
    for row in rows:
        verdict = "pass" if row.passed else "FAIL"
        lines.append(
            f"  {row.quantity:<{width}}  {row.error:>11.2e}  {row.tolerance:>9.0e}  {verdict}  {row.note}".rstrip()
        )
    lines.append(f"  {sum(row.passed for row in rows)} of {len(rows)} passed")
    return "\n".join(lines)
