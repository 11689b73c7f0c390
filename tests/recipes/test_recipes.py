import json

import keras
import numpy as np
import pytest

from keras_siamim.data.pipeline import training_batches
from keras_siamim.data.sources import array_source
from keras_siamim.recipes import (
    Recipe,
    build_masking,
    build_model,
    build_views,
    compile_model,
    load_recipe,
    recipe_differences,
    recipe_from_json,
    recipe_names,
    recipe_to_json,
)


def toy(recipe):
    """Return the recipe with small sizes, so that it trains quickly."""
    small = {
        "image_size": 4 * recipe.patch_size,
        "batch_size": 4,
        "accumulation_steps": 1,
        "encoder.width": 24,
        "encoder.depth": 1,
        "encoder.num_heads": 3,
        "encoder.widths": (4,) * len(recipe.encoder.get("widths", ())),
        "encoder.depths": (1,) * len(recipe.encoder.get("depths", ())),
        "masking.min_block": 2,
    }
    widths = {"decoder_width": 16, "decoder_heads": 2, "projector_width": 16, "embedding_width": 8}
    small |= {f"model.{name}": width for name, width in widths.items()}
    known = recipe.keys()
    return recipe.override({key: value for key, value in small.items() if key in known})


# Recipes are data. What they build is tested on every backend elsewhere, and PyTorch compiles nothing.
@pytest.mark.one_backend("torch")
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_builds_and_takes_a_step(name, rng):
    recipe = toy(load_recipe(name))
    model = compile_model(build_model(recipe, total_steps=10), recipe, steps_per_epoch=10)
    views, masking = build_views(recipe), build_masking(recipe, model.encoder.grid)
    assert (views.view_2 is None) == (recipe.view_2 is None)
    cells, size = model.encoder.grid[0] * model.encoder.grid[1], model.encoder.image_size
    batch = {
        "view_1": rng.normal(size=(4, *size, 3)).astype("float32"),
        "view_2": rng.normal(size=(4, *size, 3)).astype("float32"),
        "relative_affine": np.tile(np.float32([0.1, 0.0, 0.9, 1.1]), (4, 1)),
    }
    if masking is not None:
        visible = np.arange(cells - masking.num_masked, dtype="int32")
        batch["visible_ids"] = np.tile(visible, (4, 1))
    assert np.isfinite(model.fit(batch, batch_size=4, epochs=1, verbose=0).history["loss"][0])


@pytest.mark.slow
@pytest.mark.one_backend
def test_the_views_of_a_recipe_feed_its_model(rng):
    recipe = toy(load_recipe("digits_tiny"))
    model = compile_model(build_model(recipe, total_steps=10), recipe, steps_per_epoch=10, run_eagerly=True)
    source = array_source(rng.integers(0, 256, (4, 40, 40, 3)).astype("uint8"))
    masking = build_masking(recipe, model.encoder.grid)
    batches = training_batches(source, build_views(recipe), masking, batch_size=4, seed=recipe.seed)
    history = model.fit(batches, steps_per_epoch=1, epochs=1, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"][0])


def test_the_base_recipe_has_the_papers_values():
    recipe = load_recipe("siamese_im_vit_base_1600ep")
    assert recipe.learning_rate == pytest.approx(1e-3)
    masking = build_masking(recipe, (14, 14))
    assert (masking.num_masked, masking.min_block, masking.mode) == (118, 16, "block")
    assert recipe.describe_learning_rate() == "learning rate 0.001 = base 6.25e-05 x batch 4096 / 256"


def test_mixed_float16_scales_the_loss():
    recipe = toy(load_recipe("digits_tiny", dtype="mixed_float16"))
    model = compile_model(build_model(recipe, 10), recipe, 10)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_another_backbone_starts_with_its_own_arguments():
    recipe = load_recipe("siamese_im_vit_mini_32px", backbone="ConvNeXt", **{"encoder.widths": [8, 16]})
    assert recipe.encoder == {"widths": [8, 16]}
    assert recipe.patch_size == 8
    with pytest.raises(ValueError, match="'encoder.num_heads'"):
        recipe.override({"encoder.num_heads": 2})
    with pytest.raises(ValueError, match="`backbone` must be one of ViT, ConvNeXt. Received: 'ResNet'"):
        recipe.override({"backbone": "ResNet"})


def test_overrides_reach_what_they_name():
    recipe = load_recipe("digits_tiny", epochs=3, warmup_epochs=1, **{"encoder.depth": 2, "view_1.hue": 0.05})
    assert (recipe.epochs, recipe.encoder["depth"], recipe.view_1["hue"]) == (3, 2, 0.05)
    assert load_recipe("digits_tiny").encoder["depth"] != 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batchsize": 4}, "Received: 'batchsize'.*Did you mean 'batch_size'"),
        ({"encoder.dept": 4}, "Did you mean 'encoder.depth'"),
        ({"epochs": "many"}, "`epochs` must have the type of its current value, 40.*'many'"),
        ({"model.decoder_norm": 3}, "`model.decoder_norm` must have the type of .*'batch'.*3"),
        ({"accumulation_steps": 3}, "must divide `batch_size`"),
        ({"warmup_epochs": 99}, "below `epochs`"),
        ({"epochs": 0}, "`epochs` must be a whole number, 1 or more. Received: 0"),
        ({"epochs": True}, "`epochs` must have the type of .*40"),
        ({"batch_size": -64}, "`batch_size` must be a whole number"),
        ({"base_learning_rate": -1e-3}, "`base_learning_rate` must be a number in"),
        ({"base_learning_rate": float("nan")}, "`base_learning_rate` must be a number in.*nan"),
        ({"base_learning_rate": float("inf")}, "`base_learning_rate` must be a number in.*inf"),
        ({"target_momentum": 1.5}, "`target_momentum` must be a number in .0, 1."),
        ({"optimizer.global_clipnorm": -1.0}, "`optimizer.global_clipnorm` must be a number in"),
        ({"optimizer.beta_2": 1.0}, "`optimizer.beta_2` must be a number in"),
        ({"optimizer.weight_decay": float("nan")}, "`optimizer.weight_decay`"),
        ({"encoder.depth": 0}, "`encoder.depth` must be a whole number, 1 or more"),
        ({"encoder.width": 0}, "`encoder.width` must be a whole number, 1 or more"),
        ({"encoder.drop_path_rate": 1.0}, "`encoder.drop_path_rate` must be a number in"),
        ({"model.decoder_depth": 0}, "`model.decoder_depth`"),
        ({"model.negative_weight": float("nan")}, "`model.negative_weight`"),
        ({"model.negative_weight": "much"}, "`model.negative_weight`.*'much'"),
        ({"masking.mask_ratio": 1.0}, "`masking.mask_ratio` must be a number in"),
        ({"view_1.area": (1.0, 0.2)}, "`view_1.area` must be two numbers, 0 < low <= high"),
        ({"view_2.blur_probability": 1.5}, "`view_2.blur_probability` must be in"),
        ({"image_size": 0}, "`image_size` must be a whole number, 1 or more"),
        ({"dtype": "float31"}, "`dtype` must be the name of a Keras dtype policy"),
        ({"seed": -1}, "`seed` must be a whole number, 0 or more"),
        ({"epochs": None}, "`epochs` must be a whole number"),
        ({"base_learning_rate": None}, "`base_learning_rate` must be a number in"),
        ({"encoder.depth": 2.0}, "`encoder.depth` must be a whole number"),
        ({"encoder.position_embedding": "rotary"}, "`encoder.position_embedding` must be one of sincos, learned"),
        ({"model.decoder_norm": "group"}, "`model.decoder_norm` must be one of"),
        ({"model.loss": "byol"}, "`model.loss` must be one of unigrad"),
        ({"masking.mode": "grid"}, "`masking.mode` must be one of block, random, none"),
        ({"encoder.num_heads": 5}, "`encoder.num_heads` must divide `encoder.width`. Received: 5, 96"),
        ({"image_size": 30}, "`encoder.patch_size` must divide `image_size`. Received: 7, 30"),
        ({"objective": "BYOL"}, "`objective` must be one of SiameseIM"),
    ],
)
def test_invalid_overrides_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        load_recipe("digits_tiny", **changes)


def test_an_unknown_recipe_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="Did you mean 'digits_tiny'"):
        load_recipe("digit_tiny")


def test_keys_list_every_value():
    keys = Recipe(epochs=2, warmup_epochs=1, batch_size=8, base_learning_rate=1e-3).keys()
    assert {"epochs", "encoder.width", "model.decoder_depth", "optimizer.weight_decay", "view_2.hue"} <= set(keys)


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("epochs", [1, 3, 10])
def test_every_recipe_can_be_shortened_by_setting_epochs_alone(name, epochs):
    recipe = load_recipe(name, epochs=epochs)
    own = load_recipe(name)
    assert recipe.rising_epochs / epochs == pytest.approx(own.rising_epochs / own.epochs)


def test_published_recipes_warm_up_for_40_epochs_as_in_the_papers():
    epochs = {name: load_recipe(name).rising_epochs for name in recipe_names() if name.endswith("ep")}
    assert set(epochs.values()) == {40.0}
    assert load_recipe("digits_tiny", warmup_epochs=2.5).rising_epochs == 2.5


@pytest.mark.one_backend
@pytest.mark.parametrize(("width", "weight"), [(768, 0.02), (192, 0.08), (96, 0.16)])
def test_the_negative_weight_follows_the_decoders_width(width, weight):
    changes = {"model.decoder_width": width, "model.decoder_depth": 1, "model.decoder_heads": 4}
    assert build_model(load_recipe("digits_tiny", **changes), 10).criterion.negative_weight == weight
    explicit = load_recipe("digits_tiny", **changes, **{"model.negative_weight": 0.1})
    assert build_model(explicit, 10).criterion.negative_weight == 0.1


@pytest.mark.parametrize("name", recipe_names())
def test_every_value_is_restored_from_json(name):
    recipe = load_recipe(name)
    content = json.loads(json.dumps(recipe_to_json(recipe)))
    assert recipe_from_json(content).keys() == recipe.keys()
    assert recipe_differences(content, recipe_to_json(recipe)) == []


def test_recorded_recipes_may_lack_newer_keys_but_have_no_unknown_ones():
    recorded = recipe_to_json(load_recipe("digits_tiny"))
    del recorded["momentum_schedule"], recorded["model"]["scope"], recorded["view_1"]["solarize_probability"]
    assert recipe_differences(recorded, recipe_to_json(load_recipe("digits_tiny"))) == []
    with pytest.raises(ValueError, match="Received: later"):
        recipe_from_json({**recorded, "later": 1})
    with pytest.raises(ValueError, match="must have only entries of a SiameseIM recipe. Received: model.later"):
        recipe_from_json({**recorded, "model": {**recorded["model"], "later": 1}})
