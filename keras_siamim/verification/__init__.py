"""Comparison with reference values that were recorded from the authors' programs.

A *recording* is an `.npz` file of settings, weights, inputs and reference values of one program.
"""

from keras_siamim.verification.replay import replay_recording
from keras_siamim.verification.report import Row, format_report

__all__ = ["Row", "format_report", "replay_recording"]
