"""Fair comparison of the three objectives, and every ablation of the paper as a single override."""

import dataclasses

import pytest
from keras import ops

from keras_siamim.recipes import build_masking, build_model, load_recipe

OBJECTIVE_SETTINGS = {"objective", "target_momentum", "encoder", "model", "view_1", "view_2", "masking"}


@pytest.mark.parametrize("pixels", [32, 64])
@pytest.mark.parametrize("baseline", ["mae", "mocov3"])
def test_baselines_differ_only_in_settings_of_the_objective(baseline, pixels):
    ours = dataclasses.asdict(load_recipe(f"siamese_im_vit_tiny_{pixels}px"))
    theirs = dataclasses.asdict(load_recipe(f"{baseline}_vit_tiny_{pixels}px"))
    assert {name for name, value in ours.items() if theirs[name] != value} <= OBJECTIVE_SETTINGS
    assert theirs["encoder"].pop("final_norm")
    assert theirs["encoder"] == ours["encoder"]
    for name in ("area", "aspect", "flip_probability"):
        assert theirs["view_1"].get(name) == ours["view_1"].get(name)


@pytest.mark.parametrize(
    "change",
    [
        {"model.target_view": "same"},
        {"model.prediction_target": "normalized_pixels"},
        {"model.scope": "global"},
        {"model.scope": {"dense": 1.0, "global": 0.5}},
        {"masking.mode": "random"},
        {"masking.mode": "none"},
        {"masking.mask_ratio": 0.25},
        {"model.projector_norm": "layer"},
        {"model.decoder_norm": "layer"},
        {"model.relative_positions": "none"},
        {"model.loss": "info_nce"},
        {"model.negative_weight": 0.1},
        {"model.loss": {"name": "info_nce", "temperature": 0.1}},
        {"view_1.jitter_probability": 0.0},
        {"view_2.brightness": 0.8},
        {"momentum_schedule": "constant"},
        {"target_momentum": 0.0},
        {"model.target_image_size": 16},
        {"model.target_keep_ratio": 0.5},
    ],
    ids=str,
)
def test_every_ablation_is_one_override(change):
    ((key, value),) = change.items()
    recipe = load_recipe("siamese_im_vit_tiny_32px", **change)
    assert recipe.keys()[key] == value
    small = {"encoder.width": 12, "encoder.depth": 1, "model.decoder_width": 12, "model.decoder_depth": 1}
    model = build_model(recipe.override(small), total_steps=4)
    masking = build_masking(recipe, model.encoder.grid)
    assert (masking.num_masked == 0) is (value == "none" and key == "masking.mode")


def test_momentum_is_scheduled_or_constant():
    momenta = {}
    for schedule in ("cosine", "constant"):
        recipe = load_recipe("mocov3_vit_tiny_32px", momentum_schedule=schedule)
        model = build_model(recipe.override({"encoder.width": 12, "encoder.depth": 1}), total_steps=4)
        momenta[schedule] = [round(float(ops.convert_to_numpy(model.momentum_at(step))), 6) for step in (0, 4)]
    assert momenta == {"cosine": [0.99, 1.0], "constant": [0.99, 0.99]}
