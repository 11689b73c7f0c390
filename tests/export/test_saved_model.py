"""An export computes what Keras computes, needs TensorFlow alone, and is published completely or not at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim import ViTEncoder
from keras_siamim.batch import IMAGENET_MEAN, IMAGENET_STD
from keras_siamim.export import export_saved_model, saved_model
from keras_siamim.export.outputs import named_outputs
from tests.export import foreign

SCRIPT = Path(__file__).with_name("tensorflow_only.py")


def make_encoder(**overrides):
    keras.utils.set_random_seed(0)
    return ViTEncoder(**{"image_size": (32, 48), "patch_size": 8, "width": 24, "depth": 2, "num_heads": 3, **overrides})


def make_head(classes=5, width=24):
    head = keras.Sequential([keras.layers.LayerNormalization(epsilon=1e-6), keras.layers.Dense(classes)])
    head.build((None, width))
    return head


def expected_outputs(encoder, head, images):
    normalized = (images.astype("float32") / 255 - IMAGENET_MEAN) / IMAGENET_STD
    outputs = named_outputs(encoder, head, "mean", ops.convert_to_tensor(normalized))
    return {name: ops.convert_to_numpy(value) for name, value in outputs.items()}


def test_tensorflow_alone_computes_the_outputs_of_keras(tmp_path):
    """New process, both loaders, batch sizes 1, 3 and 64, on every backend."""
    encoder, head = make_encoder(), make_head()
    export = export_saved_model(encoder, tmp_path / "model", head=head)
    assert export.path == tmp_path / "model" / "1"
    assert export.error <= 1e-4
    images = np.random.default_rng(1).integers(0, 256, (64, 32, 48, 3), "uint8")
    np.savez(tmp_path / "expected.npz", images=images, **expected_outputs(encoder, head, images))
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": ""}
    command = [sys.executable, str(SCRIPT), str(export.path), str(tmp_path / "expected.npz")]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("done\n")


def test_a_refused_export_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(
        saved_model,
        "keras_outputs",
        lambda *_: {name: value + 1.0 for name, value in expected_outputs(encoder, None, images).items()},
    )
    encoder, images = make_encoder(depth=1), saved_model.probe_images((32, 48))
    with pytest.raises(RuntimeError, match="refused"):
        export_saved_model(encoder, tmp_path / "model")
    assert list((tmp_path / "model").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"pooling": "max"}, "pooling"),
        ({"weights_dtype": "int8"}, "weights_dtype"),
        ({"crop_fraction": 0.0}, "crop_fraction"),
        ({"version": 0}, "version"),
        ({"version": 3}, "version"),
        ({"head": keras.layers.Dense(2)}, "head"),
    ],
)
def test_bad_arguments_are_named_and_nothing_is_written(tmp_path, arguments, named):
    (tmp_path / "3").mkdir()
    with pytest.raises(ValueError, match=f"`{named}`"):
        export_saved_model(make_encoder(depth=1), tmp_path, **arguments)
    assert [child.name for child in tmp_path.iterdir()] == ["3"]


@pytest.fixture(scope="module")
def foreign_export(tmp_path_factory):
    return export_saved_model(
        foreign.encoder(), tmp_path_factory.mktemp("foreign"), image_size=(16, 24), crop_fraction=0.875
    )


def test_a_users_registered_class_is_exported_from_every_backend(foreign_export):
    assert foreign_export.error < 1e-5


def test_explicit_crop_fractions_are_exported(foreign_export):
    content = json.loads((foreign_export.path / "assets.extra" / "preprocessing.json").read_text())
    assert content == {"image_size": [16, 24], "frame": [18, 27]}
