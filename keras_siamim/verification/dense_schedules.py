"""Comparison with recorded learning rates of dense tasks: UPerNet's and ViTDet's."""

import numpy as np
from keras import ops

from keras_siamim.schedules import WarmupLinearDecay, WarmupSteps
from keras_siamim.verification.report import Row

# ViTDet warms up over this number of steps.
_WARMUP = 250


def matches(recording: dict[str, np.ndarray]) -> bool:
    """Return whether a recording holds learning rates of UPerNet or ViTDet.

    Args:
        recording: Dictionary of the recording's arrays.

    Example:
        >>> matches({"upernet/learning_rate": np.ones(3)}), matches({"loss": np.zeros(())})
        (True, False)
    """
    return "upernet/learning_rate" in recording or any(_is_steps(key) for key in recording)


def _is_steps(key):
    return key.startswith("vitdet_") and key.endswith("/steps")


def replay(recording: dict[str, np.ndarray]) -> list[Row]:
    """Compare learning rates, divided by the highest.

    ViTDet's milestones are read from the recording: the first recorded step of each lower rate.

    Args:
        recording: Dictionary of the recording's arrays.

    Returns:
        List of `Row`.
    """
    rows = []
    if "upernet/learning_rate" in recording:
        peak, total = float(recording["upernet/peak"]), int(recording["upernet/total"])
        schedule = WarmupLinearDecay(peak, int(recording["upernet/warmup"]), total)
        rows.append(_row("upernet", schedule, np.arange(total), recording["upernet/learning_rate"] / peak, peak))
    for key in filter(_is_steps, recording):
        name = key.partition("/")[0]
        steps, factors = recording[key], recording[f"{name}/factor"]
        falls = np.flatnonzero(factors[1:] < 0.5 * factors[:-1]) + 1
        schedule = WarmupSteps(1.0, _WARMUP, steps[falls].tolist())
        rows.append(_row(name, schedule, steps, factors, 1.0))
    return rows


def _row(name, schedule, steps, factors, peak):
    rates = np.array([float(ops.convert_to_numpy(schedule(int(step)))) for step in steps]) / peak
    return Row(f"{name} learning rate / peak", float(abs(rates - factors).max()), 1e-6, f"{len(steps)} steps")
