"""Comparison with torchvision's RoIAlign, over one map and over a pyramid, with gradients."""

import keras
import numpy as np
from keras import ops

from keras_siamim.detection.pyramid import FIRST_LEVEL
from keras_siamim.ops.boxes import box_levels
from keras_siamim.ops.roi_align import GATHERED_CELLS, roi_align
from keras_siamim.optimizers import GradientKeepingAdamW
from keras_siamim.verification.program import run_compiled
from keras_siamim.verification.report import Row, error_row
from keras_siamim.verification.weights import section

MAPS, GRADIENT = 1e-4, 1e-3
# Both ways to compute it.
WAYS = {"": True, " gathered": False}


def matches(recording: dict[str, np.ndarray]) -> bool:
    """Return whether a recording is of RoIAlign.

    Args:
        recording: Dictionary of the recording's arrays.

    Example:
        >>> matches({"case0/sampling_ratio": np.zeros(())})
        True
    """
    return "case0/sampling_ratio" in recording


class _Cases:
    """RoIAlign of the recorded cases, by name: `maps` are its inputs, and a call pools them."""

    def __init__(self, recording):
        self.recording = recording
        self.maps = {}
        names = sorted({key.partition("/")[0] for key in recording if key.startswith("case")})
        for name in [*names, "empty"]:
            self.maps[f"{name}/pooled"] = [recording["features"]]
        pyramid = [recording[f"pyramid/{level}"] for level in self.levels()]
        self.maps["pyramid/pooled"] = pyramid
        # Gathering is exact for maps of this size. It differs in the choice of cells only, so that two cases suffice.
        if max(max(x.shape[1:3]) for x in [recording["features"], *pyramid]) <= GATHERED_CELLS:
            self.maps["pyramid/pooled gathered"] = pyramid
            self.maps |= {f"{name}/pooled gathered": [recording["features"]] for name in names[:2]}

    def levels(self):
        return sorted(key for key in section(self.recording, "pyramid") if key[0] == "p" and key[1:].isdigit())

    def upstream(self, key):
        return self.recording.get(key.partition("/")[0] + "/upstream")

    def pooled(self, key, maps):
        """Return the pooled boxes of all images, in the recorded order."""
        case, way = key.partition("/")[0], key.removeprefix(key.partition(" ")[0])
        if case == "pyramid":
            return self._pyramid(maps, WAYS[way])
        config, features, boxes = section(self.recording, case), maps[0], self.recording["boxes"]
        owners = self.recording["image_of_box"]
        if case == "empty":
            config, boxes, owners = section(self.recording, "case0"), boxes[:0], owners[:0]
        # Every box is pooled from every image; then its own is chosen.
        pooled = roi_align(
            [features],
            [float(config["spatial_scale"])],
            ops.convert_to_tensor(np.stack([boxes] * features.shape[0])),
            None,
            tuple(config["output_size"].tolist()),
            int(config["sampling_ratio"]),
            bool(config["aligned"]),
            WAYS[way],
        )
        one_hot = (owners == np.arange(features.shape[0])[:, None]).astype("float32")
        return ops.sum(pooled * ops.convert_to_tensor(one_hot[..., None, None, None]), axis=0)

    def _pyramid(self, maps, whole):
        recorded = section(self.recording, "pyramid")
        boxes = [recorded[key] for key in sorted(recorded) if key.startswith("boxes_")]
        # Padded to one number of boxes per image.
        padded = np.zeros((len(boxes), max(map(len, boxes)), 4), "float32")
        for row, values in zip(padded, boxes, strict=True):
            row[: len(values)] = values
        scales = [self._scale(x.shape[1], recorded) for x in maps]
        levels = self.box_levels(padded, len(maps))
        size = recorded["pooled"].shape[1:3]
        pooled = roi_align(maps, scales, ops.convert_to_tensor(padded), levels, size, whole=whole)
        return ops.concatenate([pooled[i, : len(values)] for i, values in enumerate(boxes)], axis=0)

    def _scale(self, rows, recorded):
        # The stride of the first of the levels is 4.
        return rows / recorded[self.levels()[0]].shape[1] / 2**FIRST_LEVEL

    def box_levels(self, boxes, count):
        recorded = section(self.recording, "pyramid")
        canonical = (float(recorded["canonical_size"]), int(recorded["canonical_level"]))
        return box_levels(boxes, count, FIRST_LEVEL, *canonical)


class _Pooling(keras.Model):
    """The cases with an upstream gradient, whose maps are weights."""

    def __init__(self, cases):
        super().__init__(name="pooling")
        self.cases = cases
        self.maps = {}
        for key, maps in cases.maps.items():
            if cases.upstream(key) is not None:
                self.maps[key] = [self.add_weight(shape=x.shape, name=f"map{i}") for i, x in enumerate(maps)]
                for variable, value in zip(self.maps[key], maps, strict=True):
                    variable.assign(value)
        self.built = True

    def call(self, inputs):
        return {
            key: self.cases.pooled(key, [ops.convert_to_tensor(x) for x in maps]) for key, maps in self.maps.items()
        }

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return sum(ops.sum(value * ops.convert_to_tensor(self.cases.upstream(key))) for key, value in y_pred.items())


def replay(recording: dict[str, np.ndarray]) -> list[Row]:
    """Compare pooled boxes and gradients of the maps, by whole maps and by gathered cells, and levels of boxes.

    Args:
        recording: Dictionary of the recording's arrays.

    Returns:
        List of `Row`.
    """
    cases = _Cases(recording)
    inputs = {f"{key} {index}": x for key, maps in cases.maps.items() for index, x in enumerate(maps)}

    def pool_all(tensors):
        return {
            key: cases.pooled(key, [tensors[f"{key} {index}"] for index in range(len(maps))])
            for key, maps in cases.maps.items()
        }

    found = run_compiled(pool_all, inputs)
    rows = [error_row(key, value, recording[key.partition(" ")[0]], MAPS) for key, value in found.items()]
    boxes = np.concatenate([recording[key] for key in sorted(recording) if key.startswith("pyramid/boxes_")])
    levels = ops.convert_to_numpy(cases.box_levels(boxes, len(cases.levels()))) + FIRST_LEVEL
    # The file may count levels from 0.
    recorded = recording["pyramid/levels"]
    wrong = np.any(levels != recorded) and np.any(levels - FIRST_LEVEL != recorded)
    rows.append(Row("pyramid/levels", float(wrong), 0.0, "1 if any differs"))
    return rows + _gradient_rows(cases)


def _gradient_rows(cases):
    model = _Pooling(cases)
    model.compile(GradientKeepingAdamW(1e-9), jit_compile=False)
    model.train_on_batch(np.zeros(1), np.zeros(1))
    kept = {id(v): g for v, g in zip(model.trainable_variables, model.optimizer.gradients, strict=True)}
    rows = []
    for key, variables in model.maps.items():
        case, way = key.partition("/")[0], key.removeprefix(key.partition(" ")[0])
        names = [f"grad_{level}" for level in cases.levels()] if case == "pyramid" else ["grad_features"]
        for name, variable in zip(names, variables, strict=True):
            recorded = cases.recording[f"{case}/{name}"]
            rows.append(error_row(f"{case}/{name}{way}", kept[id(variable)], recorded, GRADIENT))
    return rows
