"""What was learned leaves the house: SavedModels for TensorFlow Serving and the formats of Keras's own export."""

from keras_siamim.export.saved_model import export_saved_model

__all__ = ["export_saved_model"]
