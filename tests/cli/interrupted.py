"""Check of the commands that train a task model: an interrupted run continues exactly."""

import os
import signal

import keras
import numpy as np

from keras_siamim.callbacks import LogSchedules
from keras_siamim.cli import task_run
from keras_siamim.cli.main import main


def check_interruption(command, arguments, finished, folder, batches, file, monkeypatch, capsys):
    """Interrupt a run after some batches, resume it, and compare it with a finished run.

    Args:
        command: String. Name of the command.
        arguments: List of strings. Its arguments, without the run folder.
        finished: Path of the folder of a finished run with these arguments.
        folder: Path of an empty folder.
        batches: Integer. Number of batches before SIGTERM.
        file: String. Name of the file of the trained model.
        monkeypatch: Fixture of pytest.
        capsys: Fixture of pytest.
    """

    class Interrupted(LogSchedules):
        def on_train_batch_end(self, batch, logs=None):
            if batch == batches - 1:
                os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(task_run, "LogSchedules", Interrupted)
        assert main([command, *arguments, "--run", str(folder)]) == 75
    assert f"resume with: keras-siamim {command} --run {folder}" in capsys.readouterr().out
    assert main([command, "--run", str(folder)]) == 0
    assert f"resumes after {batches} batches" in capsys.readouterr().out

    weights, expected = (keras.saving.load_model(path / file).get_weights() for path in (folder, finished))
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert main([command, "--run", str(folder)]) == 0
    assert f"{folder} is finished" in capsys.readouterr().out
