"""Every axis changes what it says and nothing else: two models with the same weights differ in one choice."""

import numpy as np
import pytest
from keras import ops

from keras_siamim.convert.names import siamese_im_names
from keras_siamim.losses import LOSSES, UniGrad, normalize_pixels
from keras_siamim.losses.unigrad import scaled_negative_weight
from keras_siamim.ops import patchify, relative_positions
from tests.nano import GRID, PATCH_SIZE, nano_batch, nano_model

WHOLE = np.tile(np.arange(6, dtype="int32"), (8, 1))
IDENTITY = np.tile(np.array([0, 0, 1, 1], "float32"), (8, 1))


def twin(model, **changes):
    """A model with some choices changed and the same weights, but those of another shape and a target it may lack."""
    other = nano_model(**changes)
    ours, theirs = siamese_im_names(model), siamese_im_names(other)
    assert all(name.startswith("mm_") for name in set(ours) ^ set(theirs))
    for name in set(ours) & set(theirs):
        if ours[name].variable.shape == theirs[name].variable.shape:
            theirs[name].variable.assign(ops.convert_to_numpy(ours[name].variable))
        else:
            assert name.startswith(("decoder_pos_mlp", "decoder_pred")), name
    return other


def outputs_of(model, batch, training=True):
    return {name: ops.convert_to_numpy(x) for name, x in model.intermediates(batch, training=training).items()}


def assert_same(first, second, *names):
    for name in names:
        np.testing.assert_allclose(first[name], second[name], atol=1e-5, err_msg=name)


def differ(first, second, name):
    return first[name].shape != second[name].shape or bool(np.abs(first[name] - second[name]).max() > 1e-3)


ONLINE = ("encoded", "projected", "decoder_in", "decoded")


# 1. The target's view.
def test_the_same_view_asks_at_its_own_places():
    """The identity as relation: what the decoder is told of view 2 is what it is told of view 1's own patches."""
    told = nano_model(relative_positions="no_scale")
    untold = twin(told, relative_positions="none")
    batch = {**nano_batch(), "relative_affine": IDENTITY}
    batch["view_2"] = batch["view_1"]
    assert_same(outputs_of(told, batch), outputs_of(untold, batch), *ONLINE, "prediction", "target")
    moved = {**batch, "relative_affine": nano_batch()["relative_affine"]}
    assert differ(outputs_of(told, moved), outputs_of(untold, moved), "decoder_in")


def test_the_same_view_by_name_needs_no_second_view():
    model, batch = nano_model(), nano_batch()
    same = twin(model, target_view="same")
    twice = {**batch, "view_2": batch["view_1"], "relative_affine": IDENTITY}
    alone = {key: batch[key] for key in ("view_1", "visible_ids")}
    assert_same(outputs_of(model, twice), outputs_of(same, alone), *ONLINE, "prediction", "target")


# 2. What is predicted.
@pytest.mark.parametrize("target", ["pixels", "normalized_pixels"])
def test_pixels_of_view_2_as_target_change_the_target_and_the_head(target):
    model, batch = nano_model(), nano_batch()
    other = twin(model, prediction_target=target)
    ours, theirs = outputs_of(model, batch), outputs_of(other, batch)
    assert_same(ours, theirs, *ONLINE)
    patches = ops.convert_to_numpy(patchify(batch["view_2"], PATCH_SIZE))
    expected = patches if target == "pixels" else ops.convert_to_numpy(normalize_pixels(patches))
    np.testing.assert_allclose(theirs["target"], expected, atol=1e-6)
    assert theirs["prediction"].shape == expected.shape
    assert other.target is None


# 3. Where.
def test_scope_changes_the_loss_alone():
    model, batch = nano_model(), nano_batch()
    models = {scope: twin(model, scope=scope) for scope in ("dense", "global")}
    both = twin(model, scope={"dense": 0.5, "global": 2.0})
    terms = {scope: terms_of(other, batch) for scope, other in models.items()}
    assert_same(outputs_of(model, batch), outputs_of(models["global"], batch), *ONLINE, "prediction", "target")
    for name, value in terms_of(both, batch).items():
        np.testing.assert_allclose(value, 0.5 * terms["dense"][name] + 2.0 * terms["global"][name], rtol=1e-5)
    outputs = outputs_of(model, batch)
    means = [outputs[name].mean(axis=1, keepdims=True) for name in ("prediction", "target")]
    np.testing.assert_allclose(
        terms["global"]["loss"], ops.convert_to_numpy(model.criterion(*means)["loss"]), rtol=1e-5
    )
    np.testing.assert_allclose(terms["dense"]["loss"], terms_of(model, batch)["loss"], rtol=1e-6)


def terms_of(model, batch):
    return {name: ops.convert_to_numpy(x) for name, x in model.loss_terms(model(batch, training=True)).items()}


# 4. Masking.
def test_without_a_mask_the_online_branch_sees_all_of_view_1():
    model, batch = nano_model(), {**nano_batch(), "visible_ids": WHOLE}
    outputs = outputs_of(model, batch)
    np.testing.assert_allclose(outputs["encoded"], ops.convert_to_numpy(model.encoder(batch["view_1"])), atol=1e-5)
    masked = outputs_of(model, nano_batch())
    assert masked["encoded"].shape[1] == 3
    assert_same(outputs, masked, "target")


def test_masked_patches_are_not_seen():
    model, batch = nano_model(), nano_batch()
    batch["visible_ids"] = np.tile(np.array([0, 4], "int32"), (8, 1))
    changed = {**batch, "view_1": batch["view_1"].copy()}
    changed["view_1"][:, :PATCH_SIZE, PATCH_SIZE:] = 7.0
    assert_same(outputs_of(model, batch), outputs_of(model, changed), *ONLINE, "prediction")


# 5. Norms.
def test_layer_norm_makes_images_independent_and_batch_norm_does_not():
    batch = nano_batch()
    half = {name: x[:4] for name, x in batch.items()}
    layer = nano_model(projector_norm="layer", decoder_norm="layer")
    assert_same({"prediction": outputs_of(layer, batch)["prediction"][:4]}, outputs_of(layer, half), "prediction")
    for norms in ({"projector_norm": "layer"}, {"decoder_norm": "layer"}):
        model = nano_model(**norms)
        whole, part = outputs_of(model, batch), outputs_of(model, half)
        independent = not differ({"x": whole["projected"][:4]}, {"x": part["projected"]}, "x")
        assert independent is ("projector_norm" in norms)
        assert differ({"x": whole["prediction"][:4]}, {"x": part["prediction"]}, "x")


# 6. Relative positions.
def test_relative_positions_tell_place_and_scale_place_or_neither():
    batch = nano_batch()
    around = {**batch, "view_2": batch["view_2"][:, :PATCH_SIZE, :PATCH_SIZE]}  # one patch: its center stays
    affine = np.array(batch["relative_affine"])
    zoomed = affine.copy()
    zoomed[:, 2:] *= 2
    zoomed[:, :2] -= affine[:, 2:] / 2
    moved = affine + np.array([0.25, 0, 0, 0], "float32")
    model = nano_model()
    for choice, tells_scale, tells_place in (("scale", True, True), ("no_scale", False, True), ("none", False, False)):
        other = twin(model, relative_positions=choice)
        told = outputs_of(other, {**around, "relative_affine": affine})
        assert_same(outputs_of(model, around), told, "encoded", "projected", "target")
        assert differ(told, outputs_of(other, {**around, "relative_affine": zoomed}), "decoder_in") is tells_scale
        assert differ(told, outputs_of(other, {**around, "relative_affine": moved}), "decoder_in") is tells_place


# 7. Loss.
@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_by_name_changes_the_loss_alone(name):
    model, batch = nano_model(), nano_batch()
    other = twin(model, loss=name)
    ours, theirs = outputs_of(model, batch), outputs_of(other, batch)
    assert_same(ours, theirs, *ONLINE, "prediction", "target")
    criterion = UniGrad(scaled_negative_weight(other.decoder_width)) if name == "unigrad" else LOSSES[name]()
    expected = criterion(theirs["prediction"], theirs["target"])["loss"]
    np.testing.assert_allclose(terms_of(other, batch)["loss"], ops.convert_to_numpy(expected), rtol=1e-5)


# A cheaper target branch: fewer patches asked for, a view 2 of fewer pixels.
def asked(count=3, seed=1):
    ids = np.argsort(np.random.default_rng(seed).random((8, 6)), axis=1)[:, :count]
    return np.sort(ids, axis=1).astype("int32")


def test_patches_asked_for_are_asked_where_they_are_and_compared_with_their_own_targets():
    model, batch, ids = nano_model(projector_norm="layer", decoder_norm="layer"), nano_batch(), asked()
    whole, part = outputs_of(model, batch), outputs_of(model, {**batch, "target_ids": ids})
    visible = 3
    for name, start in (("decoder_in", visible), ("target", 0)):
        expected = np.take_along_axis(whole[name][:, start:], ids[:, :, None], axis=1)
        np.testing.assert_allclose(part[name][:, start:], expected, atol=1e-5, err_msg=name)
    assert part["prediction"].shape == part["target"].shape == (8, 3, 16)
    everything = outputs_of(model, {**batch, "target_ids": WHOLE})
    assert_same(whole, everything, *ONLINE, "prediction", "target")


def test_kept_features_come_from_a_branch_that_sees_nothing_else():
    batch = {**nano_batch(), "target_ids": np.tile(np.array([0, 3], "int32"), (8, 1))}
    changed = {**batch, "view_2": batch["view_2"].copy()}
    changed["view_2"][:, :, PATCH_SIZE:] = 7.0  # keeps the first column: patches 0 and 3
    whole = nano_model()
    kept = twin(whole, prediction_target="kept_features")
    assert_same(outputs_of(kept, batch), outputs_of(kept, changed), "target")
    assert differ(outputs_of(whole, batch), outputs_of(whole, changed), "target")
    assert_same(outputs_of(whole, nano_batch()), outputs_of(kept, nano_batch()), "target")


def test_a_smaller_view_2_covers_the_same_places_with_larger_patches():
    """Half the resolution: each patch lies at the mean of the four it stands for, twice as large."""
    affine = nano_batch()["relative_affine"]
    y, x, height, width = (ops.convert_to_numpy(p) for p in relative_positions(affine, GRID, (4, 6)))
    half = [ops.convert_to_numpy(p) for p in relative_positions(affine, GRID, (2, 3))]
    np.testing.assert_allclose(half[0], y.reshape(8, 2, 2).mean(axis=2), atol=1e-5)
    np.testing.assert_allclose(half[1], x.reshape(8, 3, 2).mean(axis=2), atol=1e-5)
    np.testing.assert_allclose(half[2], 2 * height, rtol=1e-5)
    np.testing.assert_allclose(half[3], 2 * width, rtol=1e-5)


def test_a_smaller_view_2_is_asked_for_fewer_patches():
    model, batch = nano_model(), nano_batch()
    batch["view_2"] = batch["view_2"][:, :PATCH_SIZE, : 2 * PATCH_SIZE]
    outputs = outputs_of(model, batch)
    assert outputs["prediction"].shape == outputs["target"].shape == (8, 2, 16)


def test_a_target_image_size_resizes_view_2_alone():
    size = (PATCH_SIZE, 2 * PATCH_SIZE)
    model, batch = nano_model(), nano_batch()
    small = {**batch, "view_2": ops.convert_to_numpy(ops.image.resize(batch["view_2"], size, antialias=True))}
    resizing = twin(model, target_image_size=size)
    assert_same(outputs_of(model, small), outputs_of(resizing, batch), *ONLINE, "prediction", "target")


def test_a_keep_ratio_asks_for_a_random_share_in_training_alone():
    model, batch = nano_model(target_keep_ratio=0.5), nano_batch()
    draws = [ops.convert_to_numpy(model.select_target(batch, training=True)[2]) for _ in range(8)]
    assert {ids.shape for ids in draws} == {(8, 3)}
    assert all(np.all(np.diff(ids, axis=1) > 0) for ids in draws)
    assert set(np.concatenate(draws).ravel().tolist()) == set(range(6))
    assert outputs_of(model, batch)["prediction"].shape[1] == 3
    assert outputs_of(model, batch, training=False)["prediction"].shape[1] == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"relative_positions": "scales"}, "`relative_positions` must be one of scale, no_scale, none"),
        ({"prediction_target": None}, "`prediction_target` must be one of features, kept_features, pixels, normal"),
        ({"scope": "patches"}, "`scope` must be one of dense, global"),
        ({"scope": {"dense": 0.0}}, "`scope` must give a weight above 0"),
        ({"scope": {"dense": -1.0}}, "`scope` must be weights of 0 or more"),
        ({"target_view": "third"}, "`target_view` must be one of other, same"),
        ({"target_image_size": 12}, "must be a multiple of `patch_size`"),
        ({"target_keep_ratio": 0.0}, r"`target_keep_ratio` must be in \(0, 1\]"),
        ({"loss": "l2"}, "`loss` must be a `Loss` or one of unigrad"),
    ],
)
def test_choices_that_there_are_not_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        nano_model(**change)


def test_patches_that_there_are_not_are_refused():
    model = nano_model()
    model.compile()
    with pytest.raises(ValueError, match=r"`target_ids` must hold ascending patch indices in \[0, 5\]"):
        model.fit({**nano_batch(), "target_ids": asked() + 3}, verbose=0)


@pytest.mark.one_backend("torch")
def test_targets_from_several_layers_are_the_mean_of_their_standardized_tokens():
    model, batch = nano_model(prediction_target="last_2_layers"), nano_batch(4)
    layers = model.target.encoder.intermediates(batch["view_2"])
    tokens = [ops.convert_to_numpy(x)[:, 1:] for x in layers]
    expected = np.mean([(x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True) for x in tokens], axis=0)
    outputs = model(batch)
    np.testing.assert_allclose(ops.convert_to_numpy(outputs["target"]), expected, atol=1e-3)
    assert outputs["prediction"].shape == (4, 6, 12)
    kept = {**batch, "target_ids": np.tile(np.int32([1, 4]), (4, 1))}
    np.testing.assert_allclose(ops.convert_to_numpy(model(kept)["target"]), expected[:, [1, 4]], atol=1e-3)


@pytest.mark.one_backend("torch")
def test_more_layers_than_the_encoder_has_are_refused():
    with pytest.raises(ValueError, match="ViTEncoder with 3 or more blocks. Received: ViTEncoder with 2"):
        nano_model(prediction_target="last_3_layers")
