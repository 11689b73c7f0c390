"""Import and export of weights: the authors' programs, timm, Hugging Face and KerasHub."""

from keras_siamim.convert.keras_hub import to_keras_hub
from keras_siamim.convert.load import load_classifier, load_encoder
from keras_siamim.convert.objectives import load_objective, load_siamese_im
from keras_siamim.convert.report import Report
from keras_siamim.convert.save import encoder_weights, save_encoder

__all__ = [
    "Report",
    "encoder_weights",
    "load_classifier",
    "load_encoder",
    "load_objective",
    "load_siamese_im",
    "save_encoder",
    "to_keras_hub",
]
