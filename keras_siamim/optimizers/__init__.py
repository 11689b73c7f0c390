"""Optimizers: AdamW, AdamW with layer decay or of several models at once, LARS, and a loss scale for float16."""

from keras_siamim.optimizers.adamw import AdamW, GradientKeepingAdamW
from keras_siamim.optimizers.base import batch_counter, unwrap_optimizer
from keras_siamim.optimizers.lars import LARS
from keras_siamim.optimizers.layer_decay import LayerDecayAdamW
from keras_siamim.optimizers.loss_scale import LossScaleOptimizer
from keras_siamim.optimizers.parallel import ParallelAdamW

__all__ = [
    "LARS",
    "AdamW",
    "GradientKeepingAdamW",
    "LayerDecayAdamW",
    "LossScaleOptimizer",
    "ParallelAdamW",
    "batch_counter",
    "unwrap_optimizer",
]
