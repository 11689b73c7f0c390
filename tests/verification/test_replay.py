import json

import numpy as np
import pytest

from keras_siamim.verification import replay_recording

# Compilation takes longest, above all on JAX: some run on one backend, most of them where nothing is compiled.
# `keras-siamim verify` compares them on every backend.
NOT_COMPILED = pytest.mark.one_backend("torch")
RECORDINGS = (
    "backbone",
    pytest.param("dense_augmentation", marks=pytest.mark.one_backend),
    "dense_boxes",
    "dense_masks",
    "dense_miou",
    pytest.param("dense_roi_align", marks=pytest.mark.one_backend),
    pytest.param("dense_roi_heads", marks=NOT_COMPILED),
    pytest.param("dense_roi_heads_lvis", marks=NOT_COMPILED),
    pytest.param("dense_rpn", marks=NOT_COMPILED),
    "dense_schedules",
    "dense_upernet",
    pytest.param("dense_upernet_head", marks=pytest.mark.one_backend("tensorflow")),
    pytest.param("dense_vitdet", marks=NOT_COMPILED),
    pytest.param("dense_vitdet_backbone", marks=NOT_COMPILED),
    "mae_normpix",
    "mae_pixels",
    "mocov3",
    "position_interpolation",
    "positions",
    "schedules",
    "siameseim_bn",
    "siameseim_layerscale",
    "siameseim_ln",
)


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_recorded_quantity_is_within_tolerance(name, reference):
    rows = replay_recording(reference(f"{name}.npz"))
    assert rows
    assert [row for row in rows if not row.passed] == []


def altered(path, changes, folder):
    """Copy a recording with some entries changed."""
    with np.load(path) as file:
        recording = {key: file[key] for key in file.files}
    for key, change in changes.items():
        recording[key] = change(recording[key])
    np.savez(folder / "altered.npz", **recording)
    return folder / "altered.npz"


@pytest.mark.one_backend
@pytest.mark.parametrize(("name", "numbers"), [("dense_coco_eval", 26), ("dense_lvis_eval", 26)])
def test_average_precision_equals_that_of_coco_and_lvis(name, numbers, reference, tmp_path):
    rows = replay_recording(reference(f"{name}.json"))
    assert len(rows) == numbers
    assert [row for row in rows if not row.passed] == []

    recording = json.loads(reference(f"{name}.json").read_text())
    recording["detections"] = recording["detections"][::2]
    (tmp_path / "altered.json").write_text(json.dumps(recording))
    failing = {row.quantity for row in replay_recording(tmp_path / "altered.json") if not row.passed}
    assert {"bbox AP", "segm AP"} <= failing


@pytest.mark.one_backend
def test_json_of_another_kind_is_refused(tmp_path):
    (tmp_path / "other.json").write_text('{"name": "no recording"}')
    with pytest.raises(ValueError, match="a recording of a known kind"):
        replay_recording(tmp_path / "other.json")


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("name", "key", "failing"),
    [
        ("dense_augmentation", "jitter/rows", "jitter"),
        ("dense_augmentation", "crop/rows", "crop"),
        ("dense_augmentation", "repeat/factors", "repeat factors"),
        ("dense_augmentation", "photometric/case5/draws", "photometric"),
        ("dense_upernet_head", "features1", "scaled1"),
        ("dense_masks", "paste/probabilities", "paste/soft"),
        ("mae_normpix", "images", "prediction"),
        ("mae_normpix", "loss", "loss"),
        ("mocov3", "k1", "k1"),
        ("mocov3", "momentum", "36 target weights"),
    ],
)
def test_an_error_of_a_thousandth_fails(name, key, failing, reference, tmp_path):
    rows = replay_recording(altered(reference(f"{name}.npz"), {key: lambda x: x * 1.001}, tmp_path))
    assert failing in [row.quantity for row in rows if not row.passed]


def test_unknown_weights_are_named(reference, tmp_path):
    path = altered(reference("mae_pixels.npz"), {"config/depth": lambda depth: depth - 1}, tmp_path)
    with pytest.raises(ValueError, match=r"blocks\.1\.attn\.proj\.bias"):
        replay_recording(path)


def test_another_layout_of_positions_is_refused(reference, tmp_path):
    path = altered(reference("mocov3.npz"), {"weights/base_encoder.pos_embed": lambda x: x[..., ::-1]}, tmp_path)
    with pytest.raises(ValueError, match="base_encoder.pos_embed"):
        replay_recording(path)
