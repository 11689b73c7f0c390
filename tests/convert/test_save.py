"""Encoders in the files and classes of other libraries."""

import keras
import numpy as np
import pytest
import torch
from keras import ops

from keras_siamim import ViTEncoder, convert
from tests.convert.torch_vit import ViT, tokens

SETTINGS = {"image_size": 32, "patch_size": 8, "width": 24, "depth": 2, "num_heads": 3}
VARIANTS = [{}, {"final_norm": True}, {"position_embedding": "learned"}, {"axis_order": "columns_first"}]


def randomized(**settings):
    encoder = ViTEncoder(**{**SETTINGS, **settings})
    rng = np.random.default_rng(0)
    encoder.set_weights([w + 0.3 * rng.normal(size=w.shape).astype("float32") for w in encoder.get_weights()])
    return encoder


@pytest.mark.parametrize("variant", [*VARIANTS, {"layer_scale_init": 0.1}])
def test_a_round_trip_is_exact(tmp_path, variant):
    encoder = randomized(**variant)
    conventions = ["timm"] if "layer_scale_init" in variant else convert.save.CONVENTIONS
    for convention in conventions:
        path = tmp_path / f"{convention}.safetensors"
        convert.save_encoder(encoder, path, convention)
        again, report = convert.load_encoder(path, num_heads=3)
        assert (report.skipped, report.missing) == ({}, ())
        for name in ("position_embedding", "axis_order", "final_norm"):
            assert getattr(again, name) == getattr(encoder, name)
        for ours, loaded in zip(encoder.get_weights(), again.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, loaded)
        with pytest.raises(ValueError, match="not exist yet"):
            convert.save_encoder(encoder, path, convention)


@pytest.mark.parametrize("variant", VARIANTS)
def test_plain_pytorch_computes_the_same_features(variant, rng):
    encoder = randomized(**variant)
    theirs = ViT(norm=encoder.final_norm)
    theirs.load_state_dict({k: torch.tensor(v) for k, v in convert.encoder_weights(encoder).items()}, strict=True)
    images = rng.normal(size=(2, 32, 32, 3)).astype("float32")
    ours = ops.convert_to_numpy(encoder(images))
    assert np.abs(tokens(theirs, images) - ours).max() <= 1e-5 * np.abs(ours).max()


@pytest.mark.one_backend
def test_equal_encoders_give_equal_files(tmp_path):
    encoder = randomized()
    for number in range(5):
        convert.save_encoder(encoder, tmp_path / f"{number}.safetensors")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_layer_scale_does_not_exist_in_hugging_face_s_vit():
    with pytest.raises(ValueError, match="Received: 'blocks.0.ls1.gamma', which that model lacks"):
        convert.encoder_weights(randomized(layer_scale_init=0.1), "hugging_face")
    with pytest.raises(ValueError, match="`convention` must be one of"):
        convert.encoder_weights(randomized(), "flax")


@pytest.mark.parametrize(
    "variant", [{"final_norm": True, "position_embedding": "learned", "layer_scale_init": 0.1}, {}]
)
def test_keras_hub_computes_the_same_features(variant, rng):
    encoder = randomized(**variant)
    images = rng.normal(size=(2, 32, 32, 3)).astype("float32")
    ours = encoder(images)
    if not encoder.final_norm:  # KerasHub always has one
        ours = keras.layers.LayerNormalization(epsilon=1e-6)(ours)
    ours = ops.convert_to_numpy(ours)
    theirs = ops.convert_to_numpy(convert.to_keras_hub(encoder)(images))
    assert np.abs(theirs - ours).max() <= 1e-4 * np.abs(ours).max()
