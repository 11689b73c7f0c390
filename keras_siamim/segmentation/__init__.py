"""Semantic segmentation with UPerNet (arXiv 1807.10221) on a pre-trained ViT, as the paper evaluates on ADE20k."""

from keras_siamim.segmentation.upernet import UPerNet

__all__ = ["UPerNet"]
