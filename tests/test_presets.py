import hashlib

import keras
import numpy as np
import pytest

from keras_siamim import ViTEncoder, convert, presets
from keras_siamim.presets import load_encoder

SETTINGS = {"image_size": 32, "patch_size": 8, "width": 24, "depth": 1, "num_heads": 3}


@pytest.fixture
def encoder():
    return ViTEncoder(**SETTINGS)


@pytest.fixture
def served(encoder, tmp_path, monkeypatch):
    """File of the encoder's weights, with Keras's cache folder empty."""
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
    with pytest.raises(ValueError, match=f"`sha256` must be the SHA-256 sum of .*{right}. Received: {'0' * 64}"):
        ViTEncoder.from_preset(served, sha256="0" * 64, num_heads=3)


def test_urls_are_fetched_once_and_cached_under_names_of_their_own(encoder, served, monkeypatch):
    monkeypatch.setattr(presets, "_URL_SCHEMES", ("file://",))
    fetched = presets.fetch(served.as_uri())
    assert fetched.name.endswith("-model.safetensors")
    assert same(encoder, ViTEncoder.from_preset(served.as_uri(), num_heads=3))
    served.unlink()
    assert same(encoder, ViTEncoder.from_preset(served.as_uri(), num_heads=3))


def test_a_failed_download_says_what_to_do(served):
    with pytest.raises(ConnectionError, match="download https://localhost:1/model.safetensors.*pass its path"):
        ViTEncoder.from_preset("https://localhost:1/model.safetensors")


def test_hugging_face_urls():
    url = presets._hugging_face_url
    assert url("hf://a/b") == "https://huggingface.co/a/b/resolve/main/model.safetensors"
    assert url("hf://a/b/c/d.pth") == "https://huggingface.co/a/b/resolve/main/c/d.pth"
    with pytest.raises(ValueError, match="hf://OWNER/REPOSITORY"):
        ViTEncoder.from_preset("hf://a")


def test_released_weights_name_their_license_and_only_known_urls():
    assert all(released.license.startswith("CC BY-NC") for released in presets.RELEASED_WEIGHTS.values())
    with pytest.raises(ValueError, match="`name` must be the path.*github.com/OpenGVLab.*CC BY-NC.*siameseim_vit_base"):
        ViTEncoder.from_preset("siameseim_vit_base_1600ep")


def test_unknown_names_are_rejected():
    with pytest.raises(ValueError, match="vit_SIZE_patchP_S. Received: 'nowhere'"):
        ViTEncoder.from_preset("nowhere")


def test_sha256_needs_a_file_and_a_mismatch_removes_it_from_the_cache(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="`sha256` must be None for a folder"):
        presets.load_preset(tmp_path, sha256="0" * 64)
    (tmp_path / "cache").mkdir()
    fetched = tmp_path / "cache" / "weights.safetensors"
    fetched.write_bytes(b"other bytes")
    monkeypatch.setattr(presets, "fetch", lambda url: fetched)
    with pytest.raises(ValueError, match="`sha256` must be .* Received: 0000"):
        presets.load_preset("https://example.com/weights.safetensors", sha256="0" * 64)
    assert not fetched.exists()


@pytest.mark.parametrize("load", [presets.load_model, load_encoder])
def test_files_of_other_formats_than_keras_are_rejected(tmp_path, load):
    (tmp_path / "model.h5").write_bytes(b"")
    with pytest.raises(ValueError, match="`path` must be a .keras file or a folder"):
        load(tmp_path / "model.h5")


def test_urls_must_be_encrypted():
    with pytest.raises(ValueError, match="https://"):
        presets.load_preset("http://example.com/weights.safetensors")


def test_cached_file_names_omit_the_query_of_a_url(monkeypatch, tmp_path):
    monkeypatch.setattr(keras.utils, "get_file", lambda fname, **_: str(tmp_path / fname))
    assert presets.fetch("https://example.com/a/model.safetensors?download=true").name.endswith("-model.safetensors")
