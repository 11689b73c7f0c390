"""Losses: pure functions of predictions and targets, and the objects that carry their settings."""

from keras_siamim.losses.base import Loss
from keras_siamim.losses.info_nce import InfoNCE, info_nce
from keras_siamim.losses.masked_pixels import masked_pixel_loss, normalize_pixels
from keras_siamim.losses.unigrad import UniGrad, unigrad_terms

__all__ = [
    "InfoNCE",
    "Loss",
    "UniGrad",
    "info_nce",
    "masked_pixel_loss",
    "normalize_pixels",
    "unigrad_terms",
]
