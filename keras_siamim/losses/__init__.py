"""Losses: pure functions of predictions and targets, and configurable loss objects."""

from keras_siamim.losses.base import Loss
from keras_siamim.losses.by_name import LOSSES, get_loss
from keras_siamim.losses.info_nce import InfoNCE, info_nce
from keras_siamim.losses.masked_pixels import masked_pixel_loss, normalize_pixels
from keras_siamim.losses.regression import MeanSquaredError, NegativeCosine, NormalizedMeanSquaredError
from keras_siamim.losses.unigrad import UniGrad, unigrad_terms

__all__ = [
    "LOSSES",
    "InfoNCE",
    "Loss",
    "MeanSquaredError",
    "NegativeCosine",
    "NormalizedMeanSquaredError",
    "UniGrad",
    "get_loss",
    "info_nce",
    "masked_pixel_loss",
    "normalize_pixels",
    "unigrad_terms",
]
