"""Replay of recordings without a model: schedules and positions."""

import numpy as np
from keras import ops

from keras_siamim.ops import interpolate_positions, relative_position_embedding, sincos_position_table
from keras_siamim.recordings.report import Row, relative_error
from keras_siamim.schedules import CosineMomentum, warmup_cosine


def replay(recording):
    """Rows for whichever table the recording holds.

    Raises:
        ValueError: If it holds none that is known.
    """
    for key, replay_table in TABLES.items():
        if key in recording:
            return replay_table(recording)
    raise ValueError(f"The file is no recording that can be replayed: it has neither config/method nor {list(TABLES)}.")


def _schedules(recording):
    """Learning rate and momentum; the recorded epochs are counted in steps of a thousandth."""
    steps_per_epoch = 1000
    errors = {"learning_rate": 0.0, "momentum": 0.0}
    for values in recording["rows"]:
        row = dict(zip(recording["columns"].tolist(), values.tolist(), strict=True))
        step, total = round(row["epoch"] * steps_per_epoch), round(row["epochs"] * steps_per_epoch)
        peak, warmup = row["peak_learning_rate"], round(row["warmup_epochs"] * steps_per_epoch)
        rate = float(ops.convert_to_numpy(warmup_cosine(peak, warmup, total)(step)))
        errors["learning_rate"] = max(errors["learning_rate"], abs(rate - row["learning_rate"]) / peak)
        momentum = float(ops.convert_to_numpy(CosineMomentum(row["base_momentum"], total)(step)))
        errors["momentum"] = max(errors["momentum"], abs(momentum - row["momentum"]))
    note = f"{len(recording['rows'])} points"
    return [Row("learning rate / peak", errors["learning_rate"], 1e-6, note), Row("momentum", errors["momentum"], 1e-6, note)]


def _positions(recording):
    absolute = sincos_position_table((14, 14), 768)
    absolute = np.concatenate([np.zeros((1, 768)), absolute])[recording["absolute_768_14_rows"]]
    affine = affine_from_geometry({key[9:]: value for key, value in recording.items() if key.startswith("geometry/")})
    relative = relative_position_embedding(affine, (14, 14), (14, 14), 64)
    return [
        Row("absolute positions", relative_error(absolute, recording["absolute_768_14"]), 1e-4),
        Row("relative positions", relative_error(ops.convert_to_numpy(relative), recording["relative_64_14"]), 1e-4),
    ]


def _interpolation(recording):
    source, target = recording["source"][0], recording["interpolated"][0]
    side = int(recording["target_grid"])
    side_from = round((len(source) - 1) ** 0.5)
    resized = interpolate_positions(source, (side_from, side_from), (side, side))
    return [Row("interpolated positions", relative_error(resized, target), 1e-4)]


TABLES = {"columns": None}
