"""Validation of arguments that many packages share."""

import numbers
from typing import Any


def whole_number(name: str, value: Any, minimum: int = 1) -> int:
    """Return an integer argument as a Python int.

    Args:
        name: str. Name of the argument, for the error.
        value: Python or NumPy integer.
        minimum: int. Smallest valid value. Defaults to 1.

    Raises:
        ValueError: For smaller values and other types, booleans and floats included.

    Example:
        >>> from keras_siamim.arguments import whole_number
        >>> whole_number("depth", np.int64(12))
        12
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"`{name}` must be a whole number, {minimum} or more. Received: {value!r}.")
    return int(value)  # Keras cannot serialize NumPy's integers


def number_in(name: str, value: Any, interval: str) -> float:
    """Return a number in an interval unchanged.

    Args:
        name: str. Name of the argument, for the error.
        value: Python or NumPy number.
        interval: str. Two ends, each with a bracket if it is valid and a parenthesis if it is not: `"[0, 1)"`.

    Raises:
        ValueError: For other numbers and types, NaN and booleans included.

    Example:
        >>> from keras_siamim.arguments import number_in
        >>> number_in("dropout", 0.1, "[0, 1)")
        0.1
    """
    low, high = (float(end) for end in interval[1:-1].split(","))
    valid_ends = [end for end, bracket in ((low, interval[0]), (high, interval[-1])) if bracket in "[]"]
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not (low < value < high or value in valid_ends):
        raise ValueError(f"`{name}` must be a number in {interval}. Received: {value!r}.")
    return value


def height_and_width(name: str, value: Any) -> tuple[int, int]:
    """Return an image size as a tuple (height, width) of Python ints.

    Args:
        name: str. Name of the argument, for the error.
        value: Integer, or tuple or list of two integers.

    Raises:
        ValueError: For other values.

    Example:
        >>> from keras_siamim.arguments import height_and_width
        >>> height_and_width("image_size", 224)
        (224, 224)
    """
    sides = value if isinstance(value, (tuple, list)) else (value, value)
    if len(sides) != 2:
        raise ValueError(f"`{name}` must be one whole number or (height, width). Received: {value!r}.")
    height, width = (whole_number(name, side) for side in sides)
    return height, width
