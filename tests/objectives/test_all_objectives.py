"""What every objective does as a Keras model."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim import AdamW
from tests.nano import NANO_OBJECTIVES, nano_batch

every_objective = pytest.mark.parametrize("build", NANO_OBJECTIVES.values(), ids=NANO_OBJECTIVES)


def next_loss(model, seed=9):
    model.reset_metrics()
    return model.train_on_batch(nano_batch(seed=seed), return_dict=True)["loss"]


@every_objective
def test_the_configuration_builds_the_same_model(build):
    model = build()
    again = type(model).from_config(model.get_config())
    assert again.get_config() == model.get_config()
    assert [v.path.split("/", 1)[-1] for v in again.weights] == [v.path.split("/", 1)[-1] for v in model.weights]
    assert [v.trainable for v in again.weights] == [v.trainable for v in model.weights]


@every_objective
def test_training_lowers_the_loss_and_goes_on_after_saving_with_the_same_steps(build, tmp_path):
    model = build()
    model.compile(AdamW(1e-2, global_clipnorm=1.0))
    losses = [next_loss(model, seed=0) for _ in range(8)]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for seed in (7, 8):
        np.testing.assert_allclose(next_loss(again, seed), next_loss(model, seed), rtol=1e-5)


@every_objective
def test_half_precision_gives_a_finite_float32_loss(build):
    model = build("mixed_bfloat16")
    loss = model.loss_terms(model(nano_batch(), training=True))["loss"]
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    model.compile(AdamW(1e-2, global_clipnorm=1.0))
    assert np.isfinite([next_loss(model) for _ in range(3)]).all()
    assert {keras.backend.standardize_dtype(v.dtype) for v in model.trainable_variables} == {"float32"}


@every_objective
def test_the_encoder_alone_embeds_whole_images(build):
    model, images = build(), nano_batch(5)["view_1"]
    tokens = ops.convert_to_numpy(model.encoder(images))
    np.testing.assert_allclose(model.embed(images, batch_size=2), tokens[:, 1:].mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(model.embed(images, pooling="token"), tokens[:, 0], atol=1e-5)


@every_objective
def test_the_expected_loss_before_learning_leaves_the_model_as_it_is(build):
    model, batch = build(), nano_batch()
    before = model.get_weights()
    assert np.isfinite(model.expected_initial_loss(batch))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


@every_objective
def test_summaries_are_printed(build):
    model, lines = build(), []
    for part in (model, model.encoder):
        part.summary(print_fn=lambda text, **_: lines.append(text), expand_nested=True)
    model(nano_batch(2))
    model.encoder(nano_batch(2)["view_1"])
    for part in (model, model.encoder, functional_around(model.encoder)):
        part.summary(print_fn=lambda text, **_: lines.append(text), expand_nested=True)
    assert all("Total params" in text for text in lines)


def functional_around(encoder):
    images = keras.Input(encoder.image_shape)
    return keras.Model(images, encoder(images))


@every_objective
def test_penalties_of_regularizers_are_part_of_the_loss(build):
    model, batch = build(), nano_batch()
    model.compile(AdamW(1e-3))
    plain = model.evaluate(batch, verbose=0, return_dict=True)["loss"]
    model.encoder.blocks[0].mlp.reduce.kernel.regularizer = keras.regularizers.L2(0.5)
    penalty = float(ops.convert_to_numpy(sum(model.losses)))
    assert penalty > 0
    model.compile(AdamW(1e-3))
    np.testing.assert_allclose(model.evaluate(batch, verbose=0, return_dict=True)["loss"], plain + penalty, rtol=1e-5)


@every_objective
def test_a_missing_key_is_named(build):
    model = build()
    batch = nano_batch()
    key = model.batch_keys[-1]
    del batch[key]
    with pytest.raises(ValueError, match=f"lacks {key}"):
        model(batch)


@every_objective
def test_the_patch_embedding_is_trained_or_not_as_asked_whatever_it_was_before(build):
    for trained_before in (False, True):
        model = build(train_patch_embedding=trained_before)
        again = type(model)(model.encoder, **{**settings(model), "train_patch_embedding": not trained_before})
        kernel = again.encoder.patch_embedding.kernel
        assert any(v is kernel for v in again.trainable_variables) is not trained_before


def settings(model):
    config = (
        type(model).deserialize_arguments(model.get_config())
        if hasattr(model, "deserialize_arguments")
        else model.get_config()
    )
    return {key: value for key, value in config.items() if key not in ("encoder", "name", "trainable", "dtype")}


@every_objective
def test_pixels_that_were_not_normalized_are_refused(build):
    model, pixels = build(), np.zeros((2, 16, 24, 3), "uint8")
    with pytest.raises(ValueError, match="`images` must be one or more images of normalized floats.*uint8"):
        model.embed(pixels)
    with pytest.raises(ValueError, match="`images` must be normalized floats.*uint8"):
        model.encoder(pixels)
