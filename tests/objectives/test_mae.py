import numpy as np
import pytest
from keras import ops

from keras_siamim.ops import patchify
from tests.nano import PATCH_SIZE, nano_batch, nano_mae


def outputs_of(model, batch):
    return {name: ops.convert_to_numpy(value) for name, value in model(batch).items()}


def test_masked_pixels_are_predicted_without_being_seen():
    model, batch = nano_mae(), nano_batch()
    outputs = outputs_of(model, batch)
    hidden = np.ones((8, 6), bool)
    np.put_along_axis(hidden, batch["visible_ids"], False, axis=1)
    np.testing.assert_array_equal(outputs["masked"], hidden)

    pixel_is_hidden = np.kron(hidden.reshape(8, 2, 3), np.ones((1, PATCH_SIZE, PATCH_SIZE)))[..., None] > 0
    changed = {**batch, "view_1": np.where(pixel_is_hidden, 9.0, batch["view_1"]).astype("float32")}
    np.testing.assert_allclose(outputs_of(model, changed)["prediction"], outputs["prediction"], atol=1e-6)


def test_every_token_returns_to_its_place():
    """Without decoder blocks, a patch's prediction is a function of its own token and place alone."""
    model, batch = nano_mae(), nano_batch(2)
    model.decoder = []
    whole = {**batch, "visible_ids": np.tile(np.arange(5, dtype="int32"), (2, 1))}
    ids = whole["visible_ids"]
    latent = ops.convert_to_numpy(model.encoder(whole["view_1"], ids))
    shape = whole["view_1"].shape
    all_at_once = ops.convert_to_numpy(model.decode(latent, ids, shape))
    for patch in range(5):
        alone = model.decode(latent[:, [0, 1 + patch]], ids[:, patch : patch + 1], shape)
        np.testing.assert_allclose(ops.convert_to_numpy(alone)[:, patch], all_at_once[:, patch], atol=1e-5)


def test_pixels_are_plain_or_normalized_patches():
    batch = nano_batch()
    patches = ops.convert_to_numpy(patchify(batch["view_1"], PATCH_SIZE))
    plain = outputs_of(nano_mae(normalize_pixels=False), batch)["pixels"]
    np.testing.assert_allclose(plain, patches, atol=1e-6)
    normalized = outputs_of(nano_mae(), batch)["pixels"]
    np.testing.assert_allclose(normalized.std(axis=-1, ddof=1), 1.0, atol=1e-4)


def test_something_must_be_masked():
    batch = {**nano_batch(), "visible_ids": np.tile(np.arange(6, dtype="int32"), (8, 1))}
    with pytest.raises(ValueError, match=r"must have \[1, 5\] of the 6 patches per image. Received: 6"):
        nano_mae()(batch)
