"""Photometric distortion of uint8 images: brightness, contrast, saturation and hue, as in mmsegmentation.

Saturation and hue are changed in HSV of 8 bits per channel, rounded as in OpenCV: hue in [0, 180), saturation and value
in [0, 255].
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_siamim.types import Tensor

# Largest change of each part, and hues of a full circle.
BRIGHTNESS, SCALE, HUE, HUES = 32.0, 0.5, 18, 180
# Uniform numbers per image for `draw_distortion`.
DRAWS = 9

_FIXED_POINT = 12
# Reciprocals in fixed point: 255 / value and 180 / (6 * range), 0 for 0.
_VALUES = np.arange(1, 256)
_SATURATION_OF = np.concatenate([[0], np.rint((255 << _FIXED_POINT) / _VALUES)]).astype("int32")
_HUE_OF = np.concatenate([[0], np.rint((HUES << _FIXED_POINT) / (6.0 * _VALUES))]).astype("int32")
# For each sixth of the circle: which of (value, low, falling, rising) are red, green and blue.
_SECTORS = np.array([[0, 3, 1], [2, 0, 1], [1, 0, 3], [1, 2, 0], [3, 1, 0], [0, 1, 2]], "int32")


class Distortion(NamedTuple):
    """Changes of an image's colors. Each is applied where its flag is True.

    Attributes:
        brightness: float32 scalar, added to the pixels.
        contrast: float32 scalar, a factor of the pixels.
        saturation: float32 scalar, a factor of the saturation.
        hue: int32 scalar, added to the hue modulo 180.
        flags: (4,) bool, in this order.
        contrast_first: bool scalar. Whether contrast comes before saturation and hue, or after them.
    """

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    flags: Tensor
    contrast_first: Tensor


def draw_distortion(uniforms: Tensor) -> Distortion:
    """Return a distortion from uniform numbers; each part is applied with probability 0.5.

    Brightness is uniform in [-32, 32), contrast and saturation in [0.5, 1.5), and hue is an integer in [-18, 18)
    (as in mmsegmentation).

    Args:
        uniforms: (9,) float32 in [0, 1).

    Example:
        >>> int(draw_distortion(tf.fill([9], 0.75)).hue)
        9
    """
    values = uniforms[:4]
    return Distortion(
        BRIGHTNESS * (2.0 * values[0] - 1.0),
        1.0 + SCALE * (2.0 * values[1] - 1.0),
        1.0 + SCALE * (2.0 * values[2] - 1.0),
        tf.cast(tf.floor(values[3] * 2 * HUE), tf.int32) - HUE,
        uniforms[4:8] < 0.5,
        uniforms[8] < 0.5,
    )


def distort(image: Tensor, distortion: Distortion) -> Tensor:
    """Change the colors of an image.

    Args:
        image: (height, width, 3) uint8 RGB.
        distortion: `Distortion`.

    Returns:
        (height, width, 3) uint8. Every step clips to [0, 255] and drops fractions.

    Example:
        >>> brighter = Distortion(9.5, 1.0, 1.0, 0, np.array([True, False, False, False]), True)
        >>> distort(tf.fill((1, 1, 3), tf.constant(250, tf.uint8)), brighter).numpy().tolist()
        [[[255, 255, 255]]]
    """
    brightness, contrast, saturation, hue = tf.unstack(tf.convert_to_tensor(distortion.flags))
    first = tf.convert_to_tensor(distortion.contrast_first)

    def change_contrast(image):
        return _affine(image, distortion.contrast, 0.0)

    def saturate(image):
        hsv = to_hsv(image)
        return from_hsv(tf.concat([hsv[..., :1], _affine(hsv[..., 1:2], distortion.saturation, 0.0), hsv[..., 2:]], -1))

    def shift_hue(image):
        hsv = to_hsv(image)
        shifted = tf.math.floormod(tf.cast(hsv[..., :1], tf.int32) + distortion.hue, HUES)
        return from_hsv(tf.concat([tf.cast(shifted, tf.uint8), hsv[..., 1:]], -1))

    def brighten(image):
        return _affine(image, 1.0, distortion.brightness)

    steps = (
        (brightness, brighten),
        (contrast & first, change_contrast),
        (saturation, saturate),
        (hue, shift_hue),
        (contrast & ~first, change_contrast),
    )
    for flag, step in steps:
        image = tf.cond(flag, lambda step=step, image=image: step(image), lambda image=image: image)
    return image


def _affine(values, scale, shift):
    changed = tf.cast(values, tf.float32) * tf.cast(scale, tf.float32) + tf.cast(shift, tf.float32)
    return tf.cast(tf.clip_by_value(changed, 0.0, 255.0), tf.uint8)


def to_hsv(image: Tensor) -> Tensor:
    """Convert RGB to HSV.

    Args:
        image: (..., 3) uint8 RGB.

    Returns:
        (..., 3) uint8: hue in [0, 180), saturation, value.

    Example:
        >>> to_hsv(np.array([[0, 255, 0]], "uint8")).numpy().tolist()
        [[60, 255, 255]]
    """
    red, green, blue = tf.unstack(tf.cast(image, tf.int32), axis=-1)
    value = tf.reduce_max(tf.cast(image, tf.int32), -1)
    spread = value - tf.reduce_min(tf.cast(image, tf.int32), -1)
    half = 1 << (_FIXED_POINT - 1)

    def rounded(product):
        return tf.bitwise.right_shift(product + half, _FIXED_POINT)

    saturation = rounded(spread * tf.gather(_SATURATION_OF, value))
    sixths = tf.where(
        value == red, green - blue, tf.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    )
    hue = rounded(sixths * tf.gather(_HUE_OF, spread))
    hue = tf.where(hue < 0, hue + HUES, hue)
    return tf.cast(tf.stack([hue, saturation, value], -1), tf.uint8)


def from_hsv(hsv: Tensor) -> Tensor:
    """Convert HSV to RGB.

    Args:
        hsv: (..., 3) uint8: hue in [0, 180), saturation, value.

    Returns:
        (..., 3) uint8 RGB.

    Example:
        >>> from_hsv(np.array([[60, 255, 255]], "uint8")).numpy().tolist()
        [[0, 255, 0]]
    """
    hue, saturation, value = tf.unstack(tf.cast(hsv, tf.float32), axis=-1)
    sixths = hue * (6.0 / HUES)
    saturation, value = saturation / 255.0, value / 255.0
    sector = tf.floor(sixths)
    part = sixths - sector
    levels = tf.stack(
        [
            value,
            value * (1.0 - saturation),
            value * (1.0 - saturation * part),
            value * (1.0 - saturation * (1.0 - part)),
        ],
        -1,
    )
    chosen = tf.gather(_SECTORS, tf.math.floormod(tf.cast(sector, tf.int32), 6))
    rgb = tf.gather(levels, chosen, batch_dims=len(sector.shape))
    return tf.cast(tf.clip_by_value(tf.round(rgb * 255.0), 0.0, 255.0), tf.uint8)
