"""Callbacks for `fit`."""

from keras_siamim.callbacks.divergence import Diverged, StopWhenDiverged
from keras_siamim.callbacks.exact_checkpoint import ExactCheckpoint
from keras_siamim.callbacks.schedules import LogSchedules

__all__ = ["Diverged", "ExactCheckpoint", "LogSchedules", "StopWhenDiverged"]
