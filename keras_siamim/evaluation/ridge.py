"""Ridge regression of many targets in float64, for several penalties, in bounded memory."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

# Largest side of the matrix that is factorized: two such matrices of float64 take 4.3 GB.
MAX_SIDE = 16_384
_VALUES_PER_CHUNK = 1 << 23  # 64 MB of float64


class LinearMap(NamedTuple):
    """Affine map `inputs @ weights + intercept`.

    Attributes:
        weights: (width, targets) float64.
        intercept: (targets,) float64.
    """

    weights: np.ndarray
    intercept: np.ndarray

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Map inputs (rows, width) floats to targets (rows, targets) float64, chunk by chunk."""
        chunks = [np.asarray(inputs[part], "float64") @ self.weights for part in _chunks(*inputs.shape)]
        return np.concatenate(chunks) + self.intercept


def fit_ridge(
    inputs: np.ndarray, targets: np.ndarray, penalties: Sequence[float], scale: np.ndarray, verbose: int = 0
) -> list[LinearMap]:
    """Minimize mean squared error + penalty * ||W||^2 for each penalty, with an intercept that has no penalty.

    The mean is over rows, the squared error is summed over targets, and W applies to `scale * inputs`. The normal
    equations are solved in their primal form, (width, width), or their dual form, (rows, rows), by the smaller side.

    Args:
        inputs: (rows, width) floats. A memory map is read in chunks.
        targets: (rows, targets) floats.
        penalties: Sequence of floats above 0.
        scale: (width,) floats. Factor of each column of `inputs`.
        verbose: Integer. 1 shows a progress bar. Defaults to 0.

    Returns:
        One `LinearMap` of unscaled inputs per penalty.

    Raises:
        ValueError: If both sides of `inputs` exceed `MAX_SIDE`.

    Example:
        >>> inputs = np.array([[0.0], [1.0], [2.0]])
        >>> fit_ridge(inputs, 3 * inputs + 1, [1e-12], scale=np.ones(1))[0](np.array([[5.0]])).round(6).tolist()
        [[16.0]]
    """
    from scipy import linalg

    rows, width = inputs.shape
    primal = width <= rows
    side = width if primal else rows
    if side > MAX_SIDE:
        raise ValueError(
            f"`inputs` must have at most {MAX_SIDE:,} rows or columns, so that the solution fits into memory. "
            f"Received: shape {inputs.shape}."
        )
    means = sum(np.asarray(inputs[part], "float64").sum(axis=0) for part in _chunks(rows, width)) / rows
    offset = np.mean(targets, axis=0, dtype="float64")
    centered = np.asarray(targets, "float64") - offset
    # Rows of a long split, or columns of a wide one, are added chunk by chunk to the matrix of the smaller side.
    parts = _chunks(rows, width) if primal else _chunks(width, rows)
    progress = keras.utils.Progbar(len(parts) + len(penalties), verbose=verbose, unit_name="chunk")
    gram, moments = np.zeros((side, side)), np.zeros((side, centered.shape[1]))
    for part in parts:
        if primal:
            chunk = (np.asarray(inputs[part], "float64") - means) * scale
            gram += chunk.T @ chunk
            moments += chunk.T @ centered[part]
        else:
            chunk = (np.asarray(inputs[:, part], "float64") - means[part]) * scale[part]
            gram += chunk @ chunk.T
        progress.add(1)
    solutions = []
    for penalty in penalties:
        matrix = gram.copy()
        matrix.flat[:: side + 1] += penalty * rows
        solutions.append(
            linalg.solve(matrix, moments if primal else centered, assume_a="pos", overwrite_a=True, check_finite=False)
        )
        progress.add(1)
    if not primal:
        together = np.concatenate(solutions, axis=1)
        columns = [(np.asarray(inputs[:, part], "float64") - means[part]).T @ together for part in parts]
        solutions = np.split(np.concatenate(columns) * scale[:, None], len(penalties), axis=1)
    weights = [solution * scale[:, None] for solution in solutions]
    return [LinearMap(weight, offset - means @ weight) for weight in weights]


def _chunks(length: int, other: int) -> list[slice]:
    """Return slices of an axis, such that a chunk of a matrix with `other` as its second side has bounded size."""
    size = max(1, _VALUES_PER_CHUNK // other)
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
