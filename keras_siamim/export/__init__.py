"""What was learned leaves the house: SavedModels for TensorFlow Serving, and ONNX."""

from keras_siamim.export.onnx import export_onnx
from keras_siamim.export.saved_model import export_saved_model

__all__ = ["export_onnx", "export_saved_model"]
