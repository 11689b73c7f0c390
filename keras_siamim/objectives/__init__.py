"""Pre-training objectives: one Keras model each, trained by `compile` and `fit`."""

from keras_siamim.objectives.ablations import SiameseIMAblation
from keras_siamim.objectives.base import Objective
from keras_siamim.objectives.mae import MAE
from keras_siamim.objectives.moco_v3 import MoCoV3
from keras_siamim.objectives.momentum import MomentumObjective
from keras_siamim.objectives.siamese_im import SiameseIM

__all__ = ["MAE", "MoCoV3", "MomentumObjective", "Objective", "SiameseIM", "SiameseIMAblation"]
