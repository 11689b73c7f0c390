"""Losses against plain NumPy, in limiting cases, and their invariances."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim.losses import (
    LOSSES,
    InfoNCE,
    UniGrad,
    get_loss,
    info_nce,
    masked_pixel_loss,
    normalize_pixels,
    unigrad_terms,
)


def value(loss):
    return float(ops.convert_to_numpy(loss))


@pytest.fixture
def pair(rng):
    return rng.normal(size=(3, 4, 8)).astype("float32"), rng.normal(size=(3, 4, 8)).astype("float32")


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_unigrad_is_the_mean_over_all_pairs_of_tokens(pair):
    p, z = (x.reshape(-1, 8).astype("float64") for x in pair)
    positive, negative = unigrad_terms(*pair)
    np.testing.assert_allclose(value(positive), np.mean(np.sum((p - z) ** 2, axis=1)), rtol=1e-5)
    np.testing.assert_allclose(value(negative), np.mean(np.sum((p @ z.T) ** 2, axis=1)) / len(z), rtol=1e-5)
    np.testing.assert_allclose(
        value(UniGrad(0.3)(*pair)["loss"]), (value(positive) + 0.3 * value(negative)) / 8, rtol=1e-5
    )


def test_unigrad_without_its_negative_term_is_the_mean_squared_error(pair):
    np.testing.assert_allclose(value(UniGrad(0.0)(*pair)["loss"]), value(get_loss("mse")(*pair)["loss"]), rtol=1e-6)


def test_info_nce_is_the_cross_entropy_of_cosines(pair):
    q, k = (unit(x.reshape(-1, 8).astype("float64")) for x in pair)
    similarity = q @ k.T / 0.5
    crossentropy = np.log(np.exp(similarity).sum(axis=1)) - np.diag(similarity)
    np.testing.assert_allclose(value(info_nce(*pair, temperature=0.5)), crossentropy.mean(), rtol=1e-5)


def test_info_nce_of_equal_and_of_orthogonal_keys():
    constant, identity = np.ones((6, 6), "float32"), np.eye(6, dtype="float32")
    np.testing.assert_allclose(value(info_nce(identity, constant)), 0.4 * np.log(6), rtol=1e-5)
    np.testing.assert_allclose(value(info_nce(identity, identity)), 0.4 * np.log(1 + 5 * np.exp(-5)), rtol=1e-4)


def test_cosine_losses(pair):
    p, z = pair
    cosine = np.sum(unit(p) * unit(z), axis=-1).mean()
    np.testing.assert_allclose(value(get_loss("cosine")(p, z)["loss"]), -cosine, rtol=1e-5)
    expected = np.mean(np.sum((unit(p) - unit(z)) ** 2, axis=-1))
    np.testing.assert_allclose(value(get_loss("normalized_mse")(p, z)["loss"]), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["info_nce", "normalized_mse", "cosine"])
def test_cosine_losses_ignore_the_length_of_vectors(name, pair):
    p, z = pair
    loss = get_loss(name)
    np.testing.assert_allclose(value(loss(3 * p, 0.5 * z)["loss"]), value(loss(p, z)["loss"]), rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_float32_in_half_precision_and_round_trip_through_their_configuration(name, pair):
    loss = get_loss(name)
    halves = [ops.cast(x, "bfloat16") for x in pair]
    outputs = loss(*halves)
    assert set(outputs) == {"loss", *loss.terms}
    assert {keras.backend.standardize_dtype(x.dtype) for x in outputs.values()} == {"float32"}
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()


def test_pixels_are_normalized_by_the_unbiased_variance(rng):
    patches = rng.normal(3.0, 2.0, size=(2, 5, 12)).astype("float32")
    spread = patches.std(axis=-1, ddof=1, keepdims=True)
    expected = (patches - patches.mean(axis=-1, keepdims=True)) / spread
    np.testing.assert_allclose(ops.convert_to_numpy(normalize_pixels(patches)), expected, atol=1e-5)


def test_a_patch_of_one_color_normalizes_to_zero():
    assert not np.any(ops.convert_to_numpy(normalize_pixels(np.full((1, 1, 12), 0.3, "float32"))) > 1e-3)


def test_the_pixel_loss_ignores_visible_patches(rng):
    prediction, pixels = rng.normal(size=(2, 2, 4, 3)).astype("float32")
    masked = np.array([[True, False, True, False], [False, True, True, False]])
    expected = np.square(prediction - pixels)[masked].mean()
    np.testing.assert_allclose(value(masked_pixel_loss(prediction, pixels, masked)), expected, rtol=1e-5)
    prediction[~masked] += 100
    np.testing.assert_allclose(value(masked_pixel_loss(prediction, pixels, masked)), expected, rtol=1e-5)


def test_unknown_names_and_temperatures_out_of_range_are_rejected():
    with pytest.raises(ValueError, match="`loss` must be a `Loss` or one of unigrad.*'mae'"):
        get_loss("mae")
    with pytest.raises(ValueError, match="`temperature` must be above 0. Received: 0"):
        InfoNCE(0)
