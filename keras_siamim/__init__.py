"""Siamese Image Modeling (SiameseIM, arXiv 2206.01204) for Keras 3 on TensorFlow, JAX and PyTorch.

This level exports models, losses, schedules and the optimizer. `keras_siamim.data` turns images into batches and needs
TensorFlow; `keras_siamim.evaluation` evaluates representations; `keras_siamim.recipes` holds training recipes.
"""

import importlib
from types import ModuleType

from keras_siamim import presets  # noqa: F401  registers the loader of ViTEncoder.from_preset
from keras_siamim.backbones import ConvNeXtEncoder, ViTEncoder
from keras_siamim.export import export_saved_model
from keras_siamim.losses import InfoNCE, MeanSquaredError, NegativeCosine, NormalizedMeanSquaredError, UniGrad
from keras_siamim.objectives import MAE, MoCoV3, SiameseIM, SiameseIMAblation
from keras_siamim.optimizers import AdamW
from keras_siamim.schedules import CosineMomentum, scaled_learning_rate, warmup_cosine

__version__ = "0.1.0"

# Imported on first use: the data pipeline needs TensorFlow, the models do not.
_SUBPACKAGES = ("callbacks", "data", "distribution", "evaluation", "runs", "segmentation")


def __getattr__(name: str) -> ModuleType:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "MAE",
    "AdamW",
    "ConvNeXtEncoder",
    "CosineMomentum",
    "InfoNCE",
    "MeanSquaredError",
    "MoCoV3",
    "NegativeCosine",
    "NormalizedMeanSquaredError",
    "SiameseIM",
    "SiameseIMAblation",
    "UniGrad",
    "ViTEncoder",
    "export_saved_model",
    "scaled_learning_rate",
    "warmup_cosine",
]
