import math

import pytest

from keras_siamim.recipes import build_model, choose_recipe, expected_cost, load_recipe
from keras_siamim.recipes._cost import bytes_of_weights, bytes_per_pair

pytestmark = pytest.mark.one_backend("torch")

IMAGES = [1, 20, 300, 50_000, 2_000_000]
SIDES = [8, 47, 48, 200, 3000]


def choose(images=5000, short_side=300, gray=False, accelerator=False, memory=None, **values):
    return choose_recipe(images, short_side, gray, accelerator, memory, values)


@pytest.mark.parametrize("accelerator", [False, True])
@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("side", SIDES)
def test_every_choice_is_a_valid_recipe(images, side, accelerator):
    choice = choose(images, side, gray=True, accelerator=accelerator, memory=2**30)
    recipe = load_recipe(choice.recipe, **choice.changes)
    assert recipe.batch_size <= images
    assert recipe.image_size % recipe.encoder["patch_size"] == 0
    assert 1 <= recipe.epochs <= 1600
    assert {"recipe", "image size", "patch size", "batch size"} <= {name for name, _, _ in choice.reasons}
    assert all(why for _, _, why in choice.reasons)


def test_images_like_those_of_a_recipe_change_nothing_in_it():
    assert choose(50_000, 32).changes == {}
    assert choose(50_000, 32).recipe == "siamese_im_vit_mini_32px"
    assert choose(50_000, 32, accelerator=True).changes == {}
    assert choose(50_000, 64, accelerator=True).recipe == "siamese_im_vit_tiny_64px"
    assert choose(50_000, 64, accelerator=True).changes == {}
    assert choose(1_281_167, 375, accelerator=True).recipe == "siamese_im_vit_base_400ep"


def test_fewer_images_are_seen_more_often_in_smaller_batches():
    epochs = [choose(images).changes["epochs"] for images in (300, 3000, 30_000, 2_000_000)]
    assert epochs == [1600, 233, 23, 10]
    assert [choose(images).changes["batch_size"] for images in (60, 300, 900)] == [16, 32, 64]


def test_little_memory_is_met_by_accumulation_of_equal_batches():
    needed = 128 * bytes_per_pair(load_recipe("siamese_im_vit_mini_32px"))
    assert "accumulation_steps" not in choose(50_000, 32, memory=2 * needed).changes
    assert choose(50_000, 32, memory=needed).changes == {"accumulation_steps": 2}
    assert choose(50_000, 32, memory=1.0).changes["accumulation_steps"] == 128


def test_a_convnet_is_not_chosen():
    with pytest.raises(ValueError, match="`backbone` must be given with a recipe, such as siamese_im_convnext_mini"):
        choose_recipe(300, 100, gray=False, accelerator=False, values={"backbone": "ConvNeXt"})


@pytest.mark.parametrize("name", ["siamese_im_vit_mini_32px", "siamese_im_convnext_mini_64px"])
def test_the_memory_of_weights_is_about_that_of_the_model(name):
    recipe = load_recipe(name)
    model = build_model(recipe, total_steps=1)
    trained = sum(math.prod(weight.shape) for weight in model.trainable_variables)
    assert bytes_of_weights(recipe) == pytest.approx(4 * (model.count_params() + 3 * trained), rel=0.05)


def test_the_cost_is_that_of_the_batches_that_are_trained():
    recipe = load_recipe("siamese_im_vit_mini_32px", epochs=10, batch_size=64)
    (_, memory, why), (_, time, _) = expected_cost(recipe, 100, rate=1e9, memory=2.0**32)
    assert memory == "252 MiB"
    assert why.endswith("; 4.0 GiB are free")
    assert time == "about 11 min"  # 10 x 64 pairs of 0.47e9 operations, at 45% of the rate
    assert expected_cost(recipe.override({"accumulation_steps": 8}), 100)[0][1] == "50 MiB"
    assert expected_cost(recipe, 100)[1][1] == "unknown"


def test_gray_images_are_not_jittered_in_color():
    recipe = load_recipe(choose(gray=True).recipe, **choose(gray=True).changes)
    for view in (recipe.view_1, recipe.view_2):
        assert view["saturation"] == view["hue"] == view["gray_probability"] == 0
        assert "brightness" not in view


def test_values_of_the_user_win_and_the_reasons_say_so():
    choice = choose(50_000, 32, epochs=6, seed=3)
    assert choice.changes == {"epochs": 6, "seed": 3}
    rows = {name: (value, why) for name, value, why in choice.reasons}
    assert rows["epochs"] == ("6", "your value")
    assert rows["seed"] == ("3", "your value")
    assert rows["image size"][0] == "32"
    with pytest.raises(ValueError, match="'epoch'"):
        choose(epoch=6)


def test_what_is_chosen_fits_the_values_of_the_user():
    needed = 128 * bytes_per_pair(load_recipe("siamese_im_vit_mini_32px"))
    assert choose(50_000, 32, memory=needed, batch_size=512).changes == {"accumulation_steps": 8, "batch_size": 512}
    assert choose(50_000, 32, memory=needed, accumulation_steps=1).changes == {"accumulation_steps": 1}
    assert choose(image_size=96).changes["encoder.patch_size"] == 12
    assert choose(image_size=(96, 64)).changes["encoder.patch_size"] == 8
    assert choose(**{"image_size": 96, "encoder.patch_size": 16}).changes["encoder.patch_size"] == 16
