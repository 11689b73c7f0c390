"""Weight files of other programs: every name is accounted for, and the outputs are theirs."""

import argparse
import os
import sys

import numpy as np
import pytest
import torch
from keras import ops

from keras_siamim import ViTEncoder, convert
from keras_siamim.convert.files import read_safetensors, read_weights, write_safetensors
from keras_siamim.convert.names import siamese_im_names, to_torch
from keras_siamim.objectives import MAE, MoCoV3
from keras_siamim.ops import interpolate_positions, sincos_position_table
from tests.conftest import REFERENCE
from tests.convert.torch_vit import ViT, tokens


@pytest.fixture
def images(rng):
    return rng.normal(size=(2, 32, 32, 3)).astype("float32")


@pytest.fixture
def torch_vit():
    torch.manual_seed(0)
    return ViT()


def close(ours, theirs, tolerance=1e-4):
    ours = ops.convert_to_numpy(ours)
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def save(model, path, **more):
    torch.save({"model": model.state_dict(), "args": argparse.Namespace(lr=0.1), **more}, path)
    return path


def recording(path):
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def weights_of(recorded):
    return {key.removeprefix("weights/"): value for key, value in recorded.items() if key.startswith("weights/")}


@pytest.fixture(scope="module")
def small_checkpoint():
    """The authors' small checkpoint: (path, loaded model, report)."""
    path = REFERENCE / "siameseim_bn_checkpoint.pth"
    return path, *convert.load_siamese_im(path, num_heads=3, decoder_heads=4)


def test_the_authors_small_checkpoint_is_used_completely(reference, small_checkpoint):
    _, model, report = small_checkpoint
    assert report.missing == ()
    assert all(name.endswith("num_batches_tracked") for name in report.skipped)
    recorded = weights_of(recording(reference("siameseim_bn.npz")))
    assert set(recorded) <= set(report.used)
    for name, slot in siamese_im_names(model).items():
        np.testing.assert_array_equal(to_torch(slot), recorded[name], err_msg=name)


@pytest.mark.parametrize("branch", ["online", "target"])
def test_an_encoder_of_either_branch_of_the_authors_checkpoint(small_checkpoint, branch):
    path, model, _ = small_checkpoint
    encoder, report = convert.load_encoder(path, num_heads=3, branch=branch)
    expected = (model.online if branch == "online" else model.target).encoder
    for ours, theirs in zip(encoder.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert ("mm_cls_token" in report.used) == (branch == "target")
    assert ("mm_cls_token" in report.skipped) == (branch == "online")
    assert report.skipped["decoder_pred.weight"] == "not part of the encoder"


@pytest.mark.one_backend("torch")
def test_complete_mae_and_moco_v3_checkpoints(reference, tmp_path):
    sizes = {"image_size": 64, "patch_size": 16, "width": 24, "depth": 2, "num_heads": 3, "final_norm": True}
    mae = MAE(
        ViTEncoder(**sizes, axis_order="columns_first"),
        decoder_width=32,
        decoder_heads=4,
        decoder_depth=2,
    )
    moco = MoCoV3(ViTEncoder(**sizes), projector_width=64, embedding_width=32)
    for model, file in ((mae, "mae_pixels.npz"), (moco, "mocov3.npz")):
        weights = weights_of(recording(reference(file)))
        write_safetensors(tmp_path / f"{file}.safetensors", weights)
        report = convert.load_objective(model, tmp_path / f"{file}.safetensors")
        assert set(report.used) == set(weights)
        assert (report.skipped, report.missing) == ({}, ())
    with pytest.raises(ValueError, match="must hold the fixed position embedding.*base_encoder.pos_embed"):
        convert.load_objective(mae, tmp_path / "mocov3.npz.safetensors")


def test_mae_s_encoder_gives_mae_s_latent(reference, tmp_path):
    recorded = recording(reference("mae_pixels.npz"))
    write_safetensors(tmp_path / "mae.safetensors", weights_of(recorded))
    encoder, report = convert.load_encoder(tmp_path / "mae.safetensors", num_heads=3)
    assert (encoder.final_norm, encoder.position_embedding) == (True, "sincos")
    visible = np.sort(np.argsort(recorded["noise"], axis=1)[:, :4], axis=1)
    latent = ops.convert_to_numpy(encoder(recorded["images"], visible.astype("int32")))
    # The authors keep the noise's order; attention has none.
    order = np.argsort(np.argsort(recorded["noise"], axis=1)[:, :4], axis=1)
    theirs = np.concatenate(
        [recorded["latent"][:, :1], np.take_along_axis(recorded["latent"][:, 1:], order[..., None], 1)], 1
    )
    close(latent, theirs)
    assert "mask_token" in report.skipped


@pytest.mark.parametrize(("branch", "module"), [("online", "base_encoder"), ("target", "momentum_encoder")])
def test_moco_v3_s_encoders(reference, tmp_path, branch, module):
    weights = weights_of(recording(reference("mocov3.npz")))
    write_safetensors(tmp_path / "moco.safetensors", {f"module.{name}": array for name, array in weights.items()})
    encoder, report = convert.load_encoder(tmp_path / "moco.safetensors", num_heads=3, branch=branch)
    assert encoder.position_embedding == "sincos"
    assert f"{module}.norm.weight" in report.used
    np.testing.assert_array_equal(ops.convert_to_numpy(encoder.class_token.token), weights[f"{module}.cls_token"])


@pytest.mark.parametrize("layer_scale", [False, True])
def test_timm_s_vit(tmp_path, images, layer_scale):
    torch.manual_seed(0)
    theirs = ViT(layer_scale=layer_scale)
    encoder, report = convert.load_encoder(save(theirs, tmp_path / "vit.pth"), num_heads=3)
    assert encoder.position_embedding == "learned"
    assert set(report.used) == set(theirs.state_dict())
    assert not report.skipped
    close(encoder(images), tokens(theirs, images))


@pytest.mark.parametrize("prefix", ["", "vit."])
def test_hugging_face_s_vit(tmp_path, torch_vit, images, prefix):
    encoder, _ = convert.load_encoder(save(torch_vit, tmp_path / "vit.pth"), num_heads=3)
    theirs = convert.encoder_weights(encoder, "hugging_face")
    theirs = {prefix + name: array for name, array in theirs.items()} | {"pooler.dense.bias": np.zeros(24, "float32")}
    write_safetensors(tmp_path / "model.safetensors", theirs)
    again, report = convert.load_encoder(tmp_path / "model.safetensors", num_heads=3)
    assert f"{prefix}encoder.layer.1.attention.attention.key.bias" in report.used
    assert report.skipped == {"pooler.dense.bias": "not part of the encoder"}
    close(again(images), tokens(torch_vit, images))


def test_positions_of_another_grid_are_resized_as_recorded(reference, tmp_path):
    recorded = recording(reference("position_interpolation.npz"))
    width = recorded["source"].shape[-1]
    heads = next(heads for heads in (4, 3, 2, 1) if width % heads == 0)
    theirs = dict(ViT(width=width, heads=heads).state_dict())
    theirs["pos_embed"] = torch.from_numpy(recorded["source"])
    torch.save(theirs, tmp_path / "vit.pth")
    side = int(recorded["target_grid"])
    encoder, _ = convert.load_encoder(tmp_path / "vit.pth", image_size=8 * side, num_heads=heads)
    close(encoder.learned_positions.embedding, recorded["interpolated"], 1e-5)


def test_fixed_positions_of_another_grid_are_resized_too(reference, tmp_path):
    encoder, _ = convert.load_encoder(reference("siameseim_bn_checkpoint.pth"), image_size=(64, 96), num_heads=3)
    assert encoder.position_embedding == "learned"
    table = read_weights(reference("siameseim_bn_checkpoint.pth"))["pos_embed"][0]
    close(encoder.learned_positions.embedding[0], interpolate_positions(table, (4, 4), (4, 6)), 1e-6)


def test_a_fine_tuned_classifier_gives_the_recorded_logits(reference, tmp_path):
    recorded = recording(reference("backbone.npz"))
    torch.save({"model": {k: torch.from_numpy(v) for k, v in weights_of(recorded).items()}}, tmp_path / "ft.pth")
    classifier, report = convert.load_classifier(tmp_path / "ft.pth", num_heads=3)
    assert not report.skipped
    close(classifier(recorded["images"]), recorded["logits"])


def test_a_classifier_on_the_class_token(tmp_path, images):
    torch.manual_seed(0)
    theirs = ViT(classes=5)
    classifier, report = convert.load_classifier(save(theirs, tmp_path / "vit.pth"), num_heads=3)
    assert set(report.used) == set(theirs.state_dict())
    with torch.no_grad():
        logits = theirs.head(torch.from_numpy(tokens(theirs, images)[:, 0])).numpy()
    close(classifier(images), logits)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.one_backend("torch")
def test_pickled_code_is_not_executed(tmp_path, monkeypatch, torch_vit):
    monkeypatch.chdir(tmp_path)
    path = save(torch_vit, tmp_path / "bad.pth", more=Malicious())
    with pytest.raises(ValueError, match="without executing code"):
        convert.load_encoder(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.one_backend("torch")
def test_weights_that_do_not_fit_are_named_and_change_nothing(tmp_path, torch_vit):
    weights = torch_vit.state_dict()
    cases = {
        "must hold a plain ViT.*reg_token": {**weights, "reg_token": torch.zeros(1, 4, 24)},
        "must hold a plain ViT.*q_norm": {**weights, "blocks.0.attn.q_norm.weight": torch.zeros(8)},
        "must hold every weight.*blocks.1.mlp.fc2.bias": {
            k: v for k, v in weights.items() if k != "blocks.1.mlp.fc2.bias"
        },
        r"blocks.1.norm1.bias: `array` must fit a weight of shape \(24,\). Received: the shape \(7,\)": {
            **weights,
            "blocks.1.norm1.bias": torch.zeros(7),
        },
        "must hold the online encoder": {"something": torch.zeros(3)},
    }
    for message, bad in cases.items():
        torch.save(bad, tmp_path / "bad.pth")
        with pytest.raises(ValueError, match=message):
            convert.load_encoder(tmp_path / "bad.pth", num_heads=3)
    torch.save(weights, tmp_path / "vit.pth")
    with pytest.raises(ValueError, match="`num_heads` must be given.*24"):
        convert.load_encoder(tmp_path / "vit.pth")


@pytest.mark.one_backend("torch")
def test_safetensors_agree_with_the_package_safetensors(tmp_path, rng):
    from safetensors import numpy as library
    from safetensors.torch import save_file

    arrays = {"b": rng.normal(size=(3, 5)).astype("float32"), "a": rng.normal(size=7).astype("float32")}
    write_safetensors(tmp_path / "ours.safetensors", arrays)
    for name, array in library.load_file(tmp_path / "ours.safetensors").items():
        np.testing.assert_array_equal(array, arrays[name])
    half = {name: torch.from_numpy(array).to(torch.bfloat16) for name, array in arrays.items()}
    save_file(half, tmp_path / "half.safetensors")
    for name, array in read_weights(tmp_path / "half.safetensors").items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, half[name].float().numpy())
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "ours.safetensors").read_bytes()[:-4])
    with pytest.raises(ValueError, match="must be an intact safetensors file. Received: .*cut.safetensors"):
        read_safetensors(tmp_path / "cut.safetensors")


@pytest.mark.one_backend("torch")
def test_safetensors_of_unsupported_types_are_rejected_by_name(tmp_path):
    from safetensors.torch import save_file

    for dtype, name in ((torch.float8_e4m3fn, "F8_E4M3"), (torch.uint16, "U16")):
        save_file({"cls_token": torch.zeros(3).to(dtype)}, tmp_path / "narrow.safetensors")
        with pytest.raises(ValueError, match=f"Received: cls_token of {name} in .*narrow.safetensors"):
            read_weights(tmp_path / "narrow.safetensors")


@pytest.mark.one_backend("torch")
def test_safetensors_hold_arrays_of_any_layout_and_are_readable_like_other_files(tmp_path):
    arrays = {"transposed": np.arange(6, dtype="float32").reshape(2, 3).T, "scalar": np.array(2, "float32")}
    write_safetensors(tmp_path / "a.safetensors", arrays)
    for name, array in read_safetensors(tmp_path / "a.safetensors").items():
        np.testing.assert_array_equal(array, arrays[name], strict=True)
    (tmp_path / "other").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.one_backend("torch")
def test_a_missing_package_is_named(tmp_path, monkeypatch, torch_vit):
    encoder, _ = convert.load_encoder(save(torch_vit, tmp_path / "vit.pth"), num_heads=3)
    convert.save_encoder(encoder, tmp_path / "ours.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    convert.load_encoder(tmp_path / "vit.pth", num_heads=3)
    for use in (
        lambda: convert.load_encoder(tmp_path / "ours.safetensors"),
        lambda: convert.save_encoder(encoder, tmp_path / "new.safetensors"),
    ):
        with pytest.raises(ImportError, match=r"pip install keras-siamim\[convert\]"):
            use()


@pytest.mark.one_backend("torch")
def test_the_target_of_a_file_without_one_is_rejected(tmp_path, torch_vit):
    with pytest.raises(ValueError, match="must hold the target encoder"):
        convert.load_encoder(save(torch_vit, tmp_path / "vit.pth"), num_heads=3, branch="target")
    with pytest.raises(ValueError, match="`branch` must be one of"):
        convert.load_encoder(tmp_path / "vit.pth", branch="teacher")
    with pytest.raises(ValueError, match="must hold a classifier"):
        convert.load_classifier(tmp_path / "vit.pth")


FOREIGN = {
    "register_tokens": "register tokens",
    "reg_token": "register tokens",
    "storage_tokens": "register tokens",
    "dist_token": "distillation",
    "det_token": "detection tokens",
    "rope_embed.periods": "rotary",
    "blocks.0.attn.rotary_emb.inv_freq": "rotary",
    "rel_pos_bias.relative_position_bias_table": "relative positions",
    "blocks.0.attn.relative_position_index": "relative positions",
    "pre_logits.fc.weight": "a layer before the classifier",
    "norm_pre.weight": "a norm before the first block",
    "blocks.0.attn.q_norm.weight": "another attention variant",
    "blocks.0.mlp.w12.weight": "gated MLP",
    "attn_pool.latent": "attention pooling",
    "something.new": "something.new",
}


@pytest.mark.one_backend("torch")
@pytest.mark.parametrize(("name", "part"), FOREIGN.items())
def test_unsupported_parts_are_rejected_by_name(tmp_path, torch_vit, name, part):
    torch.save({**torch_vit.state_dict(), name: torch.zeros(1, 4, 24)}, tmp_path / "vit.pth")
    with pytest.raises(ValueError, match=f"must hold a plain ViT.*{name}") as caught:
        convert.load_encoder(tmp_path / "vit.pth", num_heads=3)
    assert part in str(caught.value)


@pytest.mark.one_backend("torch")
@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "backbone.", "model.", "visual.", "module._orig_mod.model."]
)
def test_an_encoder_inside_a_larger_model_is_found(tmp_path, torch_vit, prefix):
    weights = {prefix + name: value for name, value in torch_vit.state_dict().items()}
    torch.save({**weights, "text.weight": torch.zeros(3)} if prefix == "visual." else weights, tmp_path / "vit.pth")
    encoder, _ = convert.load_encoder(tmp_path / "vit.pth", num_heads=3)
    ours = ops.convert_to_numpy(encoder.class_token.token)
    np.testing.assert_array_equal(ours.ravel(), torch_vit.state_dict()["cls_token"].numpy().ravel())


@pytest.mark.one_backend("torch")
def test_one_of_several_encoders_or_sets_of_weights_must_be_named(tmp_path, torch_vit):
    weights = torch_vit.state_dict()
    zeros = {name: torch.zeros_like(value) for name, value in weights.items()}
    both = {f"student.backbone.{k}": v for k, v in zeros.items()} | {
        f"teacher.backbone.{k}": v for k, v in weights.items()
    }
    torch.save(both, tmp_path / "both.pth")
    with pytest.raises(ValueError, match="`prefix` must be one of student.backbone., teacher.backbone."):
        convert.load_encoder(tmp_path / "both.pth", num_heads=3)
    encoder, _ = convert.load_encoder(tmp_path / "both.pth", num_heads=3, prefix="teacher.backbone.")
    assert np.abs(ops.convert_to_numpy(encoder.class_token.token)).max() > 0
    torch.save({"model": zeros, "model_ema": weights, "epoch": 3}, tmp_path / "ema.pth")
    with pytest.raises(ValueError, match="`part` must be one of model, model_ema, .* Received: None"):
        convert.load_encoder(tmp_path / "ema.pth", num_heads=3)
    encoder, _ = convert.load_encoder(tmp_path / "ema.pth", num_heads=3, part="model_ema")
    assert np.abs(ops.convert_to_numpy(encoder.class_token.token)).max() > 0


@pytest.mark.one_backend("torch")
def test_an_unknown_number_of_heads_must_be_given(tmp_path):
    weights = ViT(width=384, heads=12).state_dict()
    weights["pos_embed"] = torch.from_numpy(
        np.concatenate([np.zeros((1, 384)), sincos_position_table((4, 4), 384)])[None]
    )
    torch.save(weights, tmp_path / "linear.pth")
    with pytest.raises(ValueError, match="`num_heads` must be given.*MoCo v3 has 12"):
        convert.load_encoder(tmp_path / "linear.pth")
    assert convert.load_encoder(tmp_path / "linear.pth", num_heads=12)[0].num_heads == 12


@pytest.mark.one_backend("torch")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, torch_vit, value):
    weights = torch_vit.state_dict()
    weights["blocks.0.norm1.bias"][3] = value
    torch.save(weights, tmp_path / "vit.pth")
    with pytest.raises(ValueError, match="blocks.0.norm1.bias: `array` must be finite"):
        convert.load_encoder(tmp_path / "vit.pth", num_heads=3)


@pytest.mark.one_backend("torch")
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html><html>not found</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (b'{"weight_map": {}}', "JSON text"),
    ],
)
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_other_files_saved_by_mistake_are_identified(tmp_path, content, what, suffix):
    (tmp_path / f"file.{suffix}").write_bytes(content)
    with pytest.raises(ValueError, match=f"must be a weight file. Received: .*, {what}"):
        convert.load_encoder(tmp_path / f"file.{suffix}")


@pytest.mark.one_backend("torch")
@pytest.mark.parametrize("name", ["blocks.0.mlp.fc1.weight", "pos_embed", "patch_embed.proj.weight", "cls_token"])
def test_every_lacking_or_misshapen_weight_is_a_value_error(tmp_path, torch_vit, name):
    for bad in (None, torch.zeros(3)):
        weights = {key: value for key, value in torch_vit.state_dict().items() if key != name}
        torch.save(weights if bad is None else {**weights, name: bad}, tmp_path / "vit.pth")
        with pytest.raises(ValueError, match=name.split(".")[0]):
            convert.load_encoder(tmp_path / "vit.pth", num_heads=3)


@pytest.mark.one_backend("torch")
def test_a_set_of_weights_is_found_at_any_depth_and_next_to_other_tensors(tmp_path, torch_vit):
    weights = torch_vit.state_dict()
    moments = {"state": {0: {"exp_avg": torch.zeros(3)}}}
    beside = {"optimizer": moments, "epoch": torch.tensor(3), "dino_loss": {"center": torch.zeros(1, 5)}}
    torch.save({"checkpoint": {"model": weights}, **beside}, tmp_path / "nested.pth")
    assert not convert.load_encoder(tmp_path / "nested.pth", num_heads=3)[1].missing
    both = {"teacher": {"backbone": weights}, "student": {"backbone": weights}, **beside}
    torch.save(both, tmp_path / "both.pth")
    with pytest.raises(ValueError, match="`part` must be one of teacher.backbone, student.backbone, .* Received: None"):
        convert.load_encoder(tmp_path / "both.pth", num_heads=3)
    convert.load_encoder(tmp_path / "both.pth", num_heads=3, part="teacher.backbone")
    with pytest.raises(ValueError, match="`part` must be one of teacher.backbone, .* Received: 'ema'"):
        convert.load_encoder(tmp_path / "both.pth", num_heads=3, part="ema")


@pytest.mark.one_backend("torch")
def test_an_average_next_to_the_weights_is_never_used_or_dropped_silently(tmp_path, torch_vit):
    weights = torch_vit.state_dict()
    ema = {f"ema.{name}": value + 1 for name, value in weights.items()}
    torch.save({**weights, **ema}, tmp_path / "ema.pth")
    with pytest.raises(ValueError, match="`prefix` must be one of '', ema., the encoders"):
        convert.load_encoder(tmp_path / "ema.pth", num_heads=3)
    for prefix, added in (("", 0), ("ema.", 1)):
        encoder, report = convert.load_encoder(tmp_path / "ema.pth", num_heads=3, prefix=prefix)
        close(
            encoder.class_token.token, (weights["cls_token"] + added).numpy().reshape(encoder.class_token.token.shape)
        )
        assert set(report.used) == {prefix + name for name in weights}
        assert len(report.skipped) == len(weights)
    torch.save({**weights, **{f"module.{name}": value for name, value in weights.items()}}, tmp_path / "twice.pth")
    with pytest.raises(ValueError, match="must hold every weight once"):
        convert.load_encoder(tmp_path / "twice.pth", num_heads=3)


@pytest.mark.one_backend("torch")
def test_parts_of_an_encoder_outside_its_prefix_are_rejected_and_other_towers_skipped(tmp_path, torch_vit):
    weights = {f"model.encoder.{name}": value for name, value in torch_vit.state_dict().items()}
    torch.save({**weights, "model.rope_embed.periods": torch.zeros(3)}, tmp_path / "rope.pth")
    with pytest.raises(ValueError, match="must hold a plain ViT.*model.rope_embed.periods.*rotary"):
        convert.load_encoder(tmp_path / "rope.pth", num_heads=3)
    torch.save({**weights, "text.rope.periods": torch.zeros(3)}, tmp_path / "text.pth")
    _, report = convert.load_encoder(tmp_path / "text.pth", num_heads=3)
    assert list(report.skipped) == ["text.rope.periods"]


@pytest.mark.one_backend("torch")
@pytest.mark.parametrize("name", ["head.norm.weight", "pooler.dense.weight", "fc.weight", "head_dist.weight"])
def test_unsupported_layers_of_a_head_are_rejected_for_classifiers(tmp_path, name):
    weights = ViT(classes=5).state_dict()
    torch.save({**weights, name: torch.zeros(24)}, tmp_path / "vit.pth")
    with pytest.raises(ValueError, match=f"must hold a plain ViT.*{name}"):
        convert.load_classifier(tmp_path / "vit.pth", num_heads=3)


@pytest.mark.one_backend("torch")
def test_heads_are_never_guessed_for_moco_v3(tmp_path):
    weights = ViT(width=384, heads=12).state_dict()
    fixed = np.concatenate([np.zeros((1, 384)), sincos_position_table((4, 4), 384)])[None]
    weights["pos_embed"] = torch.from_numpy(fixed)
    torch.save({name: value.bfloat16() for name, value in weights.items()}, tmp_path / "half.pth")
    with pytest.raises(ValueError, match="`num_heads` must be given.*MoCo v3 has 12"):
        convert.load_encoder(tmp_path / "half.pth")
    for prefix in ("base_encoder.", "model.base_encoder."):
        torch.save({prefix + name: value for name, value in weights.items()}, tmp_path / "moco.pth")
        assert convert.load_encoder(tmp_path / "moco.pth")[0].num_heads == 12
        assert convert.load_encoder(tmp_path / "moco.pth", prefix=prefix)[0].num_heads == 12


@pytest.mark.one_backend("torch")
def test_saved_encoders_store_their_number_of_heads(tmp_path):
    encoder = ViTEncoder(image_size=32, patch_size=8, width=384, depth=1, num_heads=12, position_embedding="learned")
    convert.save_encoder(encoder, tmp_path / "ours.safetensors")
    assert convert.load_encoder(tmp_path / "ours.safetensors")[0].num_heads == 12


@pytest.mark.one_backend("torch")
def test_shards_empty_files_and_damaged_files_are_rejected_by_name(tmp_path, torch_vit):
    torch.save(torch_vit.state_dict(), tmp_path / "pytorch_model-00001-of-00002.bin")
    with pytest.raises(ValueError, match="one of 2 shards"):
        convert.load_encoder(tmp_path / "pytorch_model-00001-of-00002.bin", num_heads=3)
    for content in (b"", b"Not Found", b"\x80\x02}", b"PK\x03\x04broken", bytes(range(256))):
        for suffix in ("pth", "safetensors"):
            (tmp_path / f"bad.{suffix}").write_bytes(content)
            with pytest.raises(ValueError, match="bad"):
                convert.load_encoder(tmp_path / f"bad.{suffix}")


@pytest.mark.one_backend("torch")
@pytest.mark.parametrize("name", ["pos_embed", "decoder_embed.weight", "predictor_decoder_blocks.0.mlp.fc1.weight"])
def test_misshapen_weights_of_a_complete_checkpoint_are_value_errors(reference, tmp_path, name):
    weights = read_weights(reference("siameseim_bn_checkpoint.pth"))
    write_safetensors(tmp_path / "bad.safetensors", {**weights, name: np.zeros(3, "float32")})
    with pytest.raises(ValueError, match=f"must hold {name} with the rank"):
        convert.load_siamese_im(tmp_path / "bad.safetensors", num_heads=3, decoder_heads=4)


def test_tensors_next_to_the_weights_are_not_the_weights(tmp_path, torch_vit):
    torch.save({"state_dict": torch_vit.state_dict(), "best_acc1": torch.tensor(71.5)}, tmp_path / "vit.pth")
    assert convert.load_encoder(tmp_path / "vit.pth", num_heads=3)[0].num_heads == 3


@pytest.mark.one_backend("torch")
def test_a_part_outside_the_encoder_s_prefix_is_refused_too(tmp_path, torch_vit):
    weights = {f"backbone.{name}": value for name, value in torch_vit.state_dict().items()}
    torch.save({**weights, "register_tokens": torch.zeros(1, 4, 24)}, tmp_path / "vit.pth")
    with pytest.raises(ValueError, match="register_tokens.*register tokens"):
        convert.load_encoder(tmp_path / "vit.pth", num_heads=3)


@pytest.mark.one_backend("torch")
def test_a_header_may_have_any_length(tmp_path):
    arrays = {f"{'n' * 80}{k:04d}": np.zeros(1, "float32") for k in range(0x3C20 // 150)}
    for size in (0x3C20, 0x7B20):
        write_safetensors(tmp_path / "a.safetensors", arrays)
        header = int.from_bytes((tmp_path / "a.safetensors").read_bytes()[:8], "little")
        pad = {"pad": "x" * (size - header - len(',"pad":""'))}
        write_safetensors(tmp_path / "a.safetensors", arrays, pad)
        assert (tmp_path / "a.safetensors").read_bytes()[:2] == size.to_bytes(2, "little")
        assert len(read_weights(tmp_path / "a.safetensors")) == len(arrays)
