"""Short runs of `pretrain`, without what takes most of their time."""

from keras_siamim.callbacks import DataWaitMonitor, LogSchedules
from keras_siamim.cli import pretrain
from keras_siamim.runs.log import RunLog


def log_alone(model, stage, run, source, held_out, folder, timer, writes, *_):
    """Return the callbacks of `pretrain` without those that observe the model."""
    return [LogSchedules(), DataWaitMonitor(timer), RunLog(folder, writes=writes)]


def without_observers(monkeypatch):
    """Let `pretrain` train without observers, held-out images and verdict."""
    monkeypatch.setattr(pretrain, "observers", log_alone)
    for name in ("held_out_images", "comparison_samples", "give_verdict"):
        monkeypatch.setattr(pretrain, name, lambda *_: None)
    monkeypatch.setattr(pretrain, "measure", lambda *_: {})
