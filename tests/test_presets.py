import hashlib

import keras
import numpy as np
import pytest

from keras_siamim import ViTEncoder, convert, presets
from keras_siamim.evaluation.encoders import load_encoder

SETTINGS = {"image_size": 32, "patch_size": 8, "width": 24, "depth": 1, "num_heads": 3}


@pytest.fixture
def encoder():
    return ViTEncoder(**SETTINGS)


@pytest.fixture
def served(encoder, tmp_path, monkeypatch):
    """A web address of the encoder's weights, and an empty cache of Keras."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(keras.src.backend.config, "_KERAS_DIR", str(tmp_path / "cache"))
    convert.save_encoder(encoder, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def same(encoder, other):
    return all(np.array_equal(a, b) for a, b in zip(encoder.get_weights(), other.get_weights(), strict=True))


def test_weights_come_from_files_of_either_kind_and_from_runs(encoder, served, tmp_path):
    encoder.save(tmp_path / "encoder.keras")
    for name in (tmp_path / "encoder.keras", tmp_path):
        assert same(encoder, ViTEncoder.from_preset(name))
    assert same(encoder, ViTEncoder.from_preset(str(served), num_heads=3))


def test_sha256_is_checked(encoder, served):
    right = hashlib.sha256(served.read_bytes()).hexdigest()
    assert same(encoder, ViTEncoder.from_preset(served, sha256=right, num_heads=3))
    with pytest.raises(ValueError, match=f"`sha256`.*must be {'0' * 64}. It is: {right}"):
        ViTEncoder.from_preset(served, sha256="0" * 64, num_heads=3)


def test_addresses_are_fetched_once_and_kept_apart(encoder, served, monkeypatch):
    monkeypatch.setattr(presets, "_WEB", ("file://",))
    fetched = presets.fetch(served.as_uri())
    assert fetched.name.endswith("-model.safetensors")
    assert same(encoder, ViTEncoder.from_preset(served.as_uri(), num_heads=3))
    served.unlink()
    assert same(encoder, ViTEncoder.from_preset(served.as_uri(), num_heads=3))


def test_no_network_is_said_clearly(served):
    with pytest.raises(ConnectionError, match="https://localhost:1/model.safetensors can't be fetched.*give its path"):
        ViTEncoder.from_preset("https://localhost:1/model.safetensors")


def test_hugging_face_addresses():
    address = presets._hugging_face_address
    assert address("hf://a/b") == "https://huggingface.co/a/b/resolve/main/model.safetensors"
    assert address("hf://a/b/c/d.pth") == "https://huggingface.co/a/b/resolve/main/c/d.pth"
    with pytest.raises(ValueError, match="hf://OWNER/REPOSITORY"):
        ViTEncoder.from_preset("hf://a")


def test_what_is_released_names_its_license_and_never_invents_an_address():
    assert all(released.license.startswith("CC BY-NC") for released in presets.RELEASED.values())
    with pytest.raises(ValueError, match="No address.*siameseim_vit_base_1600ep.*github.com/OpenGVLab.*CC BY-NC"):
        ViTEncoder.from_preset("siameseim_vit_base_1600ep")


def test_a_name_that_means_nothing_is_refused():
    with pytest.raises(ValueError, match="vit_SIZE_patchP_S. Received: 'nowhere'"):
        ViTEncoder.from_preset("nowhere")


def test_a_sum_is_that_of_a_file_and_a_wrong_one_is_not_kept(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="`sha256` must be None for a folder"):
        presets.load_preset(tmp_path, sha256="0" * 64)
    (tmp_path / "cache").mkdir()
    fetched = tmp_path / "cache" / "weights.safetensors"
    fetched.write_bytes(b"other bytes")
    monkeypatch.setattr(presets, "fetch", lambda address: fetched)
    with pytest.raises(ValueError, match="`sha256` of .* must be 0000"):
        presets.load_preset("https://example.com/weights.safetensors", sha256="0" * 64)
    assert not fetched.exists()


@pytest.mark.parametrize("load", [presets.load_model, load_encoder])
def test_only_keras_s_own_format_is_loaded(tmp_path, load):
    (tmp_path / "model.h5").write_bytes(b"")
    with pytest.raises(ValueError, match="`path` must be a .keras file or a folder"):
        load(tmp_path / "model.h5")


def test_addresses_must_be_encrypted():
    with pytest.raises(ValueError, match="https://"):
        presets.load_preset("http://example.com/weights.safetensors")


def test_a_query_of_an_address_is_no_part_of_the_file_name(monkeypatch, tmp_path):
    monkeypatch.setattr(keras.utils, "get_file", lambda fname, **_: str(tmp_path / fname))
    assert presets.fetch("https://example.com/a/model.safetensors?download=true").name.endswith("-model.safetensors")
