"""Old place of `keras_siamim.arguments`, for branches that are not merged yet."""

from typing import Any

from keras_siamim.arguments import height_and_width, number_in, whole_number

__all__ = ["height_and_width", "positive_number", "whole_number"]


def positive_number(name: str, value: Any) -> float:
    """Return a finite number above 0 unchanged, see `number_in`."""
    return number_in(name, value, "(0, inf)")
