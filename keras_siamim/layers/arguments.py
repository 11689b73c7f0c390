"""Checks of constructor arguments, with errors that name the argument, the rule and the value."""

import math
import numbers


def whole_number(name, value, minimum=1):
    """Return a size as a Python integer; NumPy's integers can't be written to a configuration.

    Args:
        name: The argument's name, for the error.
        value: Python or NumPy integer.
        minimum: Smallest value that is allowed.

    Raises:
        ValueError: For anything else, booleans and floats included.

    Example:
        >>> from keras_siamim.layers.arguments import whole_number
        >>> whole_number("depth", 12)
        12
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"`{name}` must be a whole number, {minimum} or more. Received: {value!r}.")
    return int(value)


def positive_number(name, value):
    """Return a finite number above 0 as it is.

    Raises:
        ValueError: For anything else.
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(f"`{name}` must be a finite number above 0. Received: {value!r}.")
    return value


def height_and_width(name, value):
    """Return an image size as two Python integers, from one number or a pair (height, width).

    Raises:
        ValueError: For anything else.
    """
    sides = value if isinstance(value, (tuple, list)) else (value, value)
    if len(sides) != 2:
        raise ValueError(f"`{name}` must be one whole number or (height, width). Received: {value!r}.")
    return tuple(whole_number(name, side) for side in sides)
