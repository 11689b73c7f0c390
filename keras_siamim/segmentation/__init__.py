"""Semantic segmentation with UPerNet (arXiv 1807.10221) on a pre-trained ViT, as the paper evaluates on ADE20k."""

from keras_siamim.segmentation.linear import linear_segmentation
from keras_siamim.segmentation.scoring import score_images
from keras_siamim.segmentation.upernet import UPerNet

__all__ = ["UPerNet", "linear_segmentation", "score_images"]
