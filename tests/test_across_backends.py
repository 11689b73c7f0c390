"""Models and checkpoints of one backend, loaded on the two others."""

import fcntl
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_siamim.runs.checkpoint_files import CheckpointFiles, read_arrays
from keras_siamim.runs.training_state import restore
from tests.nano import compiled_nano_model, nano_batch

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]
BACKENDS = [backend for backend in ("tensorflow", "jax", "torch") if backend != keras.config.backend()]


def outputs_and_next_losses(model):
    """Predictions and targets of a model, and the losses of its next two steps."""
    outputs = model.predict(nano_batch(seed=5), verbose=0)
    losses = []
    for step in (2, 3):
        model.reset_metrics()
        losses.append(model.train_on_batch(nano_batch(seed=step), return_dict=True)["loss"])
    return {**{k: np.asarray(v) for k, v in outputs.items()}, "losses": np.array(losses, "float32")}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder of a model saved by each other backend, with the outputs and next losses that its own backend gives.

    The tests of all backends share one folder if `TEST_SHARED` names it, so that each program runs once.
    """
    folder = pathlib.Path(os.environ.get("TEST_SHARED") or tmp_path_factory.mktemp("saved"))
    for backend in BACKENDS:
        with open(folder / f"{backend}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / f"{backend}.npz").exists():
                train_and_save(backend, folder / backend)
    return folder


def train_and_save(backend, path):
    command = [sys.executable, "-m", "tests.programs.train_and_save", str(path)]
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_continues_from_a_saved_model_of_another_backend(saved, backend):
    check(keras.saving.load_model(saved / f"{backend}.keras"), saved, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_continues_from_a_checkpoint_of_another_backend(saved, backend):
    model = compiled_nano_model()
    restore(model, read_arrays(CheckpointFiles(saved / backend).newest()[0]))
    check(model, saved, backend)


def check(model, saved, backend):
    """Check that outputs and next losses equal those of the backend that saved the model."""
    here = outputs_and_next_losses(model)
    with np.load(saved / f"{backend}.npz") as there:
        assert set(there.files) == set(here)
        for name, value in here.items():
            np.testing.assert_allclose(value, there[name], atol=1e-5, rtol=1e-5, err_msg=name)
