"""Export to SavedModel, for TensorFlow Serving, and to ONNX."""

from keras_siamim.export.detector import export_detector
from keras_siamim.export.onnx import export_onnx
from keras_siamim.export.saved_model import export_saved_model
from keras_siamim.export.segmenter import export_segmenter

__all__ = ["export_detector", "export_onnx", "export_saved_model", "export_segmenter"]
