"""Old place of `keras_siamim.arguments`, for branches that are not merged yet."""

from keras_siamim.arguments import height_and_width, positive_number, whole_number

__all__ = ["height_and_width", "positive_number", "whole_number"]
