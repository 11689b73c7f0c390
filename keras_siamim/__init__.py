"""Siamese Image Modeling (SiameseIM, arXiv 2206.01204) for Keras 3 on TensorFlow, JAX and PyTorch."""

from keras_siamim.backbones import ViTEncoder
from keras_siamim.losses import UniGrad
from keras_siamim.objectives import SiameseIM
from keras_siamim.optimizers import AdamW
from keras_siamim.schedules import CosineMomentum, scaled_learning_rate, warmup_cosine

__version__ = "0.1.0"

__all__ = [
    "AdamW",
    "CosineMomentum",
    "SiameseIM",
    "UniGrad",
    "ViTEncoder",
    "scaled_learning_rate",
    "warmup_cosine",
]
