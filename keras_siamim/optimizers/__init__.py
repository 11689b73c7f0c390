"""Optimizers: AdamW, AdamW with layer decay, and LARS."""

from keras_siamim.optimizers.adamw import AdamW
from keras_siamim.optimizers.lars import LARS
from keras_siamim.optimizers.layer_decay import LayerDecayAdamW

__all__ = ["LARS", "AdamW", "LayerDecayAdamW"]
