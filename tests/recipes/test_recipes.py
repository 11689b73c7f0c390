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
    recipe_names,
)


def toy(recipe):
    """The recipe with everything small that costs time, and nothing else changed."""
    patch_size = recipe.keys()["encoder.patch_size"]
    small = {
        "image_size": 4 * patch_size,
        "batch_size": 4,
        "accumulation_steps": 1,
        "encoder.width": 24,
        "encoder.depth": 1,
        "encoder.num_heads": 3,
        "masking.min_block": 2,
    }
    widths = {"decoder_width": 16, "decoder_heads": 2, "projector_width": 16, "embedding_width": 8}
    small |= {f"model.{name}": width for name, width in widths.items()}
    known = recipe.keys()
    return recipe.override({key: value for key, value in small.items() if key in known})


@pytest.mark.one_backend  # a recipe is data; what it builds is tested on every backend elsewhere
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_builds_and_takes_a_step(name, rng):
    recipe = toy(load_recipe(name))
    model = compile_model(build_model(recipe, total_steps=10), recipe, steps_per_epoch=10, run_eagerly=True)
    source = array_source(rng.integers(0, 256, (4, 40, 40, 3)).astype("uint8"))
    masking = build_masking(recipe, model.encoder.grid)
    batches = training_batches(source, build_views(recipe), masking, batch_size=4, seed=recipe.seed)
    history = model.fit(batches, steps_per_epoch=1, epochs=1, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"][0])


def test_the_papers_base_recipe_is_the_papers():
    recipe = load_recipe("siamese_im_vit_base_1600ep")
    assert recipe.learning_rate == pytest.approx(1e-3)
    masking = build_masking(recipe, (14, 14))
    assert (masking.num_masked, masking.min_block, masking.mode) == (118, 16, "block")
    assert recipe.describe_learning_rate() == "learning rate 0.001 = base 6.25e-05 x batch 4096 / 256"


def test_mixed_float16_scales_the_loss():
    recipe = toy(load_recipe("digits_tiny", dtype="mixed_float16"))
    model = compile_model(build_model(recipe, 10), recipe, 10)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_overrides_reach_what_they_name():
    recipe = load_recipe("digits_tiny", epochs=3, warmup_epochs=1, **{"encoder.depth": 2, "view_1.hue": 0.05})
    assert (recipe.epochs, recipe.encoder["depth"], recipe.view_1["hue"]) == (3, 2, 0.05)
    assert load_recipe("digits_tiny").encoder["depth"] != 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batchsize": 4}, "'batchsize' is no key.*Did you mean 'batch_size'"),
        ({"encoder.dept": 4}, "Did you mean 'encoder.depth'"),
        ({"epochs": "many"}, "`epochs` is 40.*'many'"),
        ({"model.decoder_norm": 3}, "`model.decoder_norm` is 'batch'.*3"),
        ({"accumulation_steps": 3}, "must divide `batch_size`"),
        ({"warmup_epochs": 99}, "below `epochs`"),
        ({"objective": "BYOL"}, "`objective` must be one of SiameseIM"),
    ],
)
def test_mistyped_overrides_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        load_recipe("digits_tiny", **changes)


def test_an_unknown_recipe_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="Did you mean 'digits_tiny'"):
        load_recipe("digit_tiny")


def test_keys_list_every_value():
    keys = Recipe(epochs=2, warmup_epochs=1, batch_size=8, base_learning_rate=1e-3).keys()
    assert {"epochs", "encoder.width", "model.decoder_depth", "optimizer.weight_decay", "view_2.hue"} <= set(keys)
