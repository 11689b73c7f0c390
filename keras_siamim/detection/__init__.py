"""Detection and instance segmentation with ViTDet (arXiv 2203.16527) on a pre-trained ViT, as the paper evaluates."""

from keras_siamim.detection.detector import MaskRCNN
from keras_siamim.detection.postprocessing import image_masks
from keras_siamim.detection.settings import DetectorSettings

__all__ = ["DetectorSettings", "MaskRCNN", "image_masks"]
