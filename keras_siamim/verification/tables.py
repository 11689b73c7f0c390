"""Replay of recordings without a model: schedules, positions, masks."""

import re

import numpy as np
from keras import ops

from keras_siamim.data.masking import Masking
from keras_siamim.data.views.geometry import relative_affine
from keras_siamim.ops import interpolate_positions, relative_position_embedding, sincos_position_table
from keras_siamim.schedules import CosineMomentum, warmup_cosine
from keras_siamim.verification.report import Row, relative_error
from keras_siamim.verification.weights import section


def replay(recording):
    """Rows for whichever table the recording holds.

    Raises:
        ValueError: If it holds none that is known.
    """
    for pattern, replay_table in TABLES.items():
        if any(re.fullmatch(pattern, key) for key in recording):
            return replay_table(recording)
    raise ValueError("The file is no recording that can be replayed: it has neither `config/method` nor a known table.")


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
    return [
        Row("learning rate / peak", errors["learning_rate"], 1e-6, note),
        Row("momentum", errors["momentum"], 1e-6, note),
    ]


def _positions(recording):
    """Absolute and relative embeddings; names end in width and grid side, as `relative_64_14`."""
    rows = []
    affine = relative_affine(section(recording, "geometry"))
    for name, recorded in recording.items():
        if not (match := re.fullmatch(r"(absolute|relative)_(\d+)_(\d+)", name)):
            continue
        width, grid = int(match[2]), (int(match[3]), int(match[3]))
        if match[1] == "relative":
            ours = ops.convert_to_numpy(relative_position_embedding(affine, grid, grid, width))
        else:
            table = np.concatenate([np.zeros((1, width)), sincos_position_table(grid, width)])
            ours = table[recording[f"{name}_rows"]]
        rows.append(Row(f"{match[1]} positions", relative_error(ours, recorded), 1e-4))
    return rows


def _interpolation(recording):
    source, target = recording["source"][0], recording["interpolated"][0]
    side = int(recording["target_grid"])
    side_from = round((len(source) - 1) ** 0.5)
    resized = interpolate_positions(source, (side_from, side_from), (side, side))
    return [Row("interpolated positions", relative_error(resized, target), 1e-4)]


def _masks(recording):
    """Statistics of 20,000 block-wise masks of every recorded setting, in patches' probabilities."""
    rows = []
    for name in sorted({key.split("/")[0] for key in recording}):
        setting = section(recording, name)
        side, count = int(setting["grid"]), int(setting["num_masked"])
        masking = Masking((side, side), count, "block", int(setting["min_block"]))
        masks = masking.masks(seed=0, epoch=0, index=np.arange(20_000)).numpy()
        right = np.mean(masks[:, :, 1:] == masks[:, :, :-1])
        down = np.mean(masks[:, 1:] == masks[:, :-1])
        rows += [
            Row(f"{name}: masked count", float(np.abs(masks.sum(axis=(1, 2)) - count).max()), 0.0),
            Row(f"{name}: mean map", float(np.abs(masks.mean(axis=0) - setting["mean_map"]).max()), 0.02),
            Row(f"{name}: right neighbors agree", abs(float(right - setting["p_right_equal"])), 0.01),
            Row(f"{name}: lower neighbors agree", abs(float(down - setting["p_down_equal"])), 0.01),
        ]
    return rows


TABLES = {
    "rows": _schedules,
    r"relative_\d+_\d+": _positions,
    "interpolated": _interpolation,
    r".*/mean_map": _masks,
}
