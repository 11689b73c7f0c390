"""Networks that turn images into tokens."""

from keras_siamim.backbones.loading import load_encoder
from keras_siamim.backbones.vit import VIT_SIZES, ViTEncoder

__all__ = ["load_encoder", "VIT_SIZES", "ViTEncoder"]
