"""Stand-in for the observers of `pretrain`, which take most of the time of a short run."""

from keras_siamim.callbacks import DataWaitMonitor, LogSchedules
from keras_siamim.runs.log import RunLog


def log_alone(model, stage, run, source, held_out, folder, timer, writes):
    """Return the callbacks of `pretrain` without those that observe the model."""
    return [LogSchedules(), DataWaitMonitor(timer), RunLog(folder, writes=writes)]
