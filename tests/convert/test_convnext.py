"""Weights of timm's ConvNeXt V2, in and out."""

import numpy as np
import pytest
import torch
from keras import ops

from keras_siamim import ConvNeXtEncoder
from keras_siamim.convert import encoder_weights, load_encoder, save_encoder
from tests.convert.torch_convnext import ConvNeXt
from tests.convert.torch_vit import tokens

SETTINGS = {"image_size": 16, "stem": 2, "widths": (8, 12), "depths": (1, 2)}


def saved(model, path):
    torch.save(model.state_dict(), path)
    return path


def test_features_are_those_of_plain_pytorch(tmp_path, rng):
    torch.manual_seed(0)
    model = ConvNeXt(classes=3)
    encoder, report = load_encoder(saved(model, tmp_path / "model.pth"), image_size=16)
    images = rng.normal(size=(2, 16, 16, 3)).astype("float32")
    expected, found = tokens(model, images), ops.convert_to_numpy(encoder(images))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert set(report.skipped) == {"head.norm.weight", "head.norm.bias", "head.fc.weight", "head.fc.bias"}


def test_plain_pytorch_computes_the_features_of_a_saved_encoder(rng):
    encoder = ConvNeXtEncoder(**SETTINGS)
    for variable in encoder.trainable_variables:
        variable.assign(rng.normal(scale=0.3, size=variable.shape).astype("float32"))
    model = ConvNeXt()
    model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in encoder_weights(encoder).items()})
    images = rng.normal(size=(2, 16, 16, 3)).astype("float32")
    expected, found = tokens(model, images), ops.convert_to_numpy(encoder(images))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.one_backend
def test_a_round_trip_is_exact(tmp_path):
    encoder = ConvNeXtEncoder(**SETTINGS)
    save_encoder(encoder, tmp_path / "encoder.safetensors")
    loaded, report = load_encoder(tmp_path / "encoder.safetensors", image_size=16)
    assert not report.skipped
    for one, other in zip(encoder.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stages.0.blocks.0.gamma", "LayerScale of ConvNeXt V1"),
        ("norm_pre.weight", "unknown weights.*norm_pre.weight"),
    ],
)
def test_other_architectures_are_refused_by_name(tmp_path, name, message):
    state = {**ConvNeXt().state_dict(), name: torch.ones(8)}
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=message):
        load_encoder(tmp_path / "model.pth")


@pytest.mark.one_backend
def test_only_timm_has_names_for_it():
    with pytest.raises(ValueError, match="'timm' for a ConvNeXtEncoder"):
        encoder_weights(ConvNeXtEncoder(**SETTINGS), "hugging_face")
