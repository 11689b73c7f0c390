"""Backbones: networks from images to tokens."""

from keras_siamim.backbones.convnext import CONVNEXT_SIZES, ConvNeXtEncoder
from keras_siamim.backbones.vit import VIT_SIZES, ViTEncoder

__all__ = ["CONVNEXT_SIZES", "VIT_SIZES", "ConvNeXtEncoder", "ViTEncoder"]
