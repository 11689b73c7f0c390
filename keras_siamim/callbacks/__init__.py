"""Callbacks for `fit`. None of them changes training, except that `StopWhenDiverged` can stop it."""

from keras_siamim.callbacks.divergence import Diverged, StopWhenDiverged
from keras_siamim.callbacks.feature_health import FeatureHealth, Health
from keras_siamim.callbacks.figures import Figures
from keras_siamim.callbacks.input_timing import DataWaitMonitor
from keras_siamim.callbacks.live_encoder import LabeledSplits, LiveEncoder
from keras_siamim.callbacks.log_line import LogLine
from keras_siamim.callbacks.log_schedules import LogSchedules
from keras_siamim.callbacks.online_probes import OnlineKNN, OnlineProbe
from keras_siamim.callbacks.reference_curve import LossBand, ReferenceCurve

__all__ = [
    "DataWaitMonitor",
    "Diverged",
    "FeatureHealth",
    "Figures",
    "Health",
    "LabeledSplits",
    "LiveEncoder",
    "LogLine",
    "LogSchedules",
    "LossBand",
    "OnlineKNN",
    "OnlineProbe",
    "ReferenceCurve",
    "StopWhenDiverged",
]
