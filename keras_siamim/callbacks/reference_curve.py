"""Comparison of the loss with recorded runs of the same recipe.

A file of recorded runs is JSON: `{"recipe": {...}, "data": {...}, "runs": [{"seed": 0, "loss": [...]}, ...], ...}`. A
loss is the mean over an epoch, the first one that of epoch 1. `recipe` and `data` tell which runs can be compared, see
`keras_siamim.recipes.reference_band`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

# Quantiles of Student's t distribution, 97.5 %, by degrees of freedom.
_T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


class LossBand(NamedTuple):
    """Range in which the loss of another run of the same recipe lies in 95 % of all cases, per epoch.

    Attributes:
        low: (epochs,) float64.
        high: (epochs,) float64.
        runs: Integer. Number of recorded runs.
    """

    low: np.ndarray
    high: np.ndarray
    runs: int

    def place(self, epoch: int, loss: float) -> str:
        """Return `"within"`, `"above"` or `"below"` for the mean loss of an epoch, counted from 0; a NaN is above."""
        if loss < self.low[epoch]:
            return "below"
        return "within" if loss <= self.high[epoch] else "above"


def band_of_losses(losses: Sequence[Sequence[float]]) -> LossBand:
    """Return the band of several runs: the prediction interval of one more run at each epoch.

    It is mean +- t sqrt(1 + 1 / n) s, with the standard deviation s of the n runs and the quantile t of Student's
    distribution with n - 1 degrees of freedom.

    Args:
        losses: Two or more sequences of floats of one length, the losses of each run per epoch.

    Raises:
        ValueError: If there are fewer than two runs, of different lengths, or values that are not finite.

    Example:
        >>> band = band_of_losses([[1.0, 0.5], [1.2, 0.5]])
        >>> band.place(0, 1.1), band.place(1, 0.6)
        ('within', 'above')
    """
    if len(losses) < 2 or len({len(run) for run in losses}) != 1 or not np.isfinite(losses).all():
        raise ValueError(f"`losses` must be two or more runs of equal length and finite. Received: {str(losses):.80}.")
    runs = np.asarray(losses, "float64")
    count = len(runs)
    half = _T.get(count - 1, 2.0) * math.sqrt(1 + 1 / count) * runs.std(axis=0, ddof=1)
    return LossBand(runs.mean(axis=0) - half, runs.mean(axis=0) + half, count)


def read_recorded_runs(path: Path) -> tuple[dict[str, Any], LossBand]:
    """Read a file of recorded runs.

    Args:
        path: Path of the JSON file.

    Returns:
        The content of the file, and the band of its runs.

    Raises:
        ValueError: If the file lacks `recipe`, `data` or `runs`, or the runs form no band.
        OSError: If the file cannot be read.
    """
    content = json.loads(path.read_text())
    if missing := [name for name in ("recipe", "data", "runs") if name not in content]:
        raise ValueError(f"`path` must be a file of recorded runs. Received: {path} without {', '.join(missing)}.")
    return content, band_of_losses([run["loss"] for run in content["runs"]])


class ReferenceCurve(keras.callbacks.Callback):
    """Callback that compares the loss of every epoch with the band of recorded runs.

    It logs the band as `reference_low` and `reference_high`, and reports one line per epoch. Epochs that the recorded
    runs do not have are not compared; nothing is reported without a band.

    Args:
        band: `LossBand`, or None if there is none for the recipe.
        report: Function of one line of text, or None to log alone. Defaults to `print`.

    Example:
        >>> curve = ReferenceCurve(band_of_losses([[1.0, 0.5], [1.2, 0.7]]))
        >>> curve.on_epoch_end(1, {"loss": 0.6})
        epoch 2: loss 0.6000, within the band of the recorded runs at this epoch (-1.6007 to 2.8007)
    """

    def __init__(self, band: LossBand | None, report: Callable[[str], object] | None = print):
        super().__init__()
        self.band = band
        self.report = report

    def on_epoch_end(self, epoch, logs=None):
        if self.band is None or epoch >= len(self.band.low) or "loss" not in (logs or {}):
            return
        loss, low, high = float(logs["loss"]), float(self.band.low[epoch]), float(self.band.high[epoch])
        logs.update(reference_low=low, reference_high=high)
        if self.report is not None:
            self.report(f"epoch {epoch + 1}: loss {loss:.4f}, {describe_place(loss, low, high)}")


def describe_place(loss: float, low: float, high: float) -> str:
    """Return a phrase that tells where a loss lies relative to a band.

    Example:
        >>> describe_place(0.7, 0.5, 0.6)
        'above the band of the recorded runs at this epoch (0.5000 to 0.6000)'
    """
    place = LossBand(np.array([low]), np.array([high]), 1).place(0, loss)
    return f"{place} the band of the recorded runs at this epoch ({low:.4f} to {high:.4f})"
