"""Replaying numbers that were recorded from the authors' programs."""

from keras_siamim.verification.replay import replay_recording
from keras_siamim.verification.report import Row, format_report

__all__ = ["Row", "format_report", "replay_recording"]
