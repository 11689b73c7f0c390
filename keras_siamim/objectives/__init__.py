"""Pre-training objectives: one Keras model each, trained by `compile` and `fit`."""

from keras_siamim.objectives.base import Objective
from keras_siamim.objectives.momentum import MomentumObjective
from keras_siamim.objectives.siamese_im import SiameseIM

__all__ = ["MomentumObjective", "Objective", "SiameseIM"]
