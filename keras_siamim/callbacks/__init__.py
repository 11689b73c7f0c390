"""Callbacks for `fit`."""

from keras_siamim.callbacks.divergence import Diverged, StopWhenDiverged
from keras_siamim.callbacks.input_timing import DataWaitMonitor
from keras_siamim.callbacks.log_schedules import LogSchedules

__all__ = ["DataWaitMonitor", "Diverged", "LogSchedules", "StopWhenDiverged"]
