"""Losses: pure functions of predictions and targets, and the objects that carry their settings."""

from keras_siamim.losses.unigrad import UniGrad, unigrad_terms

__all__ = ["UniGrad", "unigrad_terms"]
