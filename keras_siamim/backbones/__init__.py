"""Backbones: networks from images to tokens."""

from keras_siamim.backbones.vit import VIT_SIZES, ViTEncoder

__all__ = ["VIT_SIZES", "ViTEncoder"]
