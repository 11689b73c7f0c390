"""All objectives with a ConvNeXt encoder, which has no class token."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim import MAE, AdamW, ConvNeXtEncoder, MoCoV3, SiameseIM, SiameseIMAblation

GRID = 16
HEADS = {"decoder_width": 16, "decoder_heads": 2, "decoder_depth": 1}


def encoder(**changes):
    return ConvNeXtEncoder(image_size=16, stem=2, widths=(8, 12), depths=(1, 1), name="encoder", **changes)


def siamese_im(encoder, kind=SiameseIM, **changes):
    return kind(encoder, **HEADS, projector_depth=1, train_patch_embedding=True, **changes)


def mae(encoder):
    return MAE(encoder, **HEADS)


def moco_v3(encoder):
    return MoCoV3(encoder, projector_width=16, embedding_width=8, train_patch_embedding=True)


OBJECTIVES = {"SiameseIM": siamese_im, "MAE": mae, "MoCoV3": moco_v3}


def batch_of(rng, size=8):
    return {
        "view_1": rng.normal(size=(size, 16, 16, 3)).astype("float32"),
        "view_2": rng.normal(size=(size, 16, 16, 3)).astype("float32"),
        "relative_affine": np.tile(np.float32([0.1, 0.0, 0.9, 1.1]), (size, 1)),
        "visible_ids": np.sort(np.stack([rng.permutation(GRID)[:6] for _ in range(size)]), axis=1).astype("int32"),
    }


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_training_moves_every_weight_of_the_encoder(objective, rng, tmp_path):
    model = OBJECTIVES[objective](encoder(drop_path_rate=0.1))
    before = [ops.convert_to_numpy(variable) for variable in model.encoder.trainable_variables]
    model.compile(AdamW(1e-2, weight_decay=0.0))
    batch = batch_of(rng)
    losses = [model.train_on_batch(batch, return_dict=True)["loss"] for _ in range(4)]
    assert np.isfinite(losses).all()
    moved = [
        np.any(ops.convert_to_numpy(v) != old) for v, old in zip(model.encoder.trainable_variables, before, strict=True)
    ]
    assert all(moved)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_gradient_checkpointing_changes_no_number(rng):
    batch, states = batch_of(rng), []
    start = mae(encoder()).get_weights()
    for checkpointing in (False, True):
        model = mae(encoder())
        model.set_weights(start)
        model.gradient_checkpointing = checkpointing
        assert model.gradient_checkpointing is checkpointing
        # With a small epsilon, Adam would amplify the rounding of gradients that are almost zero.
        model.compile(AdamW(1e-2, epsilon=1e-3))
        model.train_on_batch(batch)
        states.append(model.get_weights())
    for one, other in zip(*states, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.one_backend("torch")
def test_masked_cells_change_no_prediction(rng):
    model, batch = siamese_im(encoder()), batch_of(rng, size=2)
    changed = {**batch, "view_1": batch["view_1"].copy()}
    cells = changed["view_1"].reshape(2, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5)
    for image, (row, column) in enumerate(
        divmod(np.setdiff1d(np.arange(GRID), ids)[0], 4) for ids in batch["visible_ids"]
    ):
        cells[image, row, column] = 7.0
    changed["view_1"] = np.ascontiguousarray(cells.transpose(0, 1, 3, 2, 4, 5)).reshape(2, 16, 16, 3)
    assert np.any(changed["view_1"] != batch["view_1"])
    np.testing.assert_array_equal(*(ops.convert_to_numpy(model(x)["prediction"]) for x in (batch, changed)))


@pytest.mark.one_backend("torch")
@pytest.mark.parametrize(
    "axes",
    [
        {"target_view": "same", "scope": "global"},
        {"prediction_target": "kept_features", "target_keep_ratio": 0.5},
        {"prediction_target": "normalized_pixels", "relative_positions": "none"},
    ],
)
def test_the_ablation_axes_work_too(axes, rng):
    model = siamese_im(encoder(), SiameseIMAblation, **axes)
    model.compile(AdamW(1e-3))
    assert np.isfinite(model.train_on_batch(batch_of(rng), return_dict=True)["loss"])
