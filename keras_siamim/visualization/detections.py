"""Figures of images with annotated and detected objects side by side."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_siamim.types import PathLike
from keras_siamim.visualization.segmentations import BACKGROUND, GAP, INK, class_colors
from keras_siamim.visualization.writing import save_image

SIDE, LINE = 360, 22
_MASK_OPACITY = 0.45


class Objects(NamedTuple):
    """Objects to draw on an image.

    Attributes:
        boxes: (objects, 4) floats: x1, y1, x2, y2 in pixels of the image.
        classes: (objects,) integers.
        scores: (objects,) floats in [0, 1], or None.
        masks: (objects, height, width) bool, or None.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray | None = None
    masks: np.ndarray | None = None


def draw_objects(image: np.ndarray, objects: Objects, class_names: Sequence[str]) -> Image.Image:
    """Draw boxes, masks, class names and scores on an image, the best detection on top.

    Args:
        image: (height, width, 3) uint8.
        objects: `Objects`.
        class_names: Strings. Names of the classes.

    Returns:
        A PIL image, resized so that its longer side is 360 pixels.

    Example:
        >>> objects = Objects(np.array([[1, 1, 6, 6]]), np.array([0]), np.array([0.9]))
        >>> draw_objects(np.zeros((8, 4, 3), "uint8"), objects, ["cell"]).size
        (180, 360)
    """
    colors = class_colors(len(class_names))
    pixels = image.astype("float32")
    order = range(len(objects.boxes))[::-1]
    if objects.masks is not None:
        for row in order:
            inside = objects.masks[row].astype(bool)
            pixels[inside] += _MASK_OPACITY * (colors[objects.classes[row]] - pixels[inside])
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    panel = Image.fromarray(pixels.round().astype("uint8")).resize(size, Image.Resampling.BILINEAR)
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(size=11)
    for row in order:
        color = tuple(colors[objects.classes[row]].tolist())
        draw.rectangle((np.asarray(objects.boxes[row]) * scale).tolist(), outline=color, width=2)
    for row in order:
        text = class_names[objects.classes[row]]
        if objects.scores is not None:
            text = f"{text} {objects.scores[row]:.2f}"
        x, y = (np.asarray(objects.boxes[row][:2]) * scale).tolist()
        x, y = min(max(0.0, x), max(0.0, panel.width - font.getlength(text) - 2)), max(0.0, y - 13)
        color = colors[objects.classes[row]]
        draw.rectangle(draw.textbbox((x + 1, y), text, font), fill=tuple(color.tolist()))
        # Dark text on bright colors and white text on dark ones.
        draw.text((x + 1, y), text, INK if color @ (0.3, 0.59, 0.11) > 128 else BACKGROUND, font)
    return panel


def draw_detections(
    examples: Iterable[tuple[np.ndarray, Objects, Objects]], class_names: Sequence[str], columns: int = 2
) -> Image.Image:
    """Draw a grid of images, each with its annotated objects at the left and its detections at the right.

    Args:
        examples: Iterable of tuples: an image (height, width, 3) uint8, its annotated `Objects`, and those detected.
        class_names: Strings. Names of the classes.
        columns: Integer. Images per row. Defaults to 2.

    Returns:
        A PIL image.

    Raises:
        ValueError: If there is no example.

    Example:
        >>> objects = Objects(np.zeros((0, 4)), np.zeros(0, int))
        >>> draw_detections([(np.zeros((8, 8, 3), "uint8"), objects, objects)], ["cell"]).width
        750
    """
    pairs = [
        [draw_objects(image, objects, class_names) for objects in (annotated, detected)]
        for image, annotated, detected in examples
    ]
    if not pairs:
        raise ValueError("`examples` must hold at least one image. Received: none.")
    columns = min(columns, len(pairs))
    cell = (2 * max(pair[0].width for pair in pairs) + 2 * GAP, max(pair[0].height for pair in pairs) + LINE + GAP)
    rows = -(-len(pairs) // columns)
    figure = Image.new("RGB", (columns * cell[0] + GAP, rows * cell[1] + GAP), BACKGROUND)
    draw, font = ImageDraw.Draw(figure), ImageFont.load_default(size=13)
    for number, pair in enumerate(pairs):
        left, top = GAP + number % columns * cell[0], number // columns * cell[1]
        for title, panel in zip(("annotated", "detected"), pair, strict=True):
            draw.text((left, top + 4), title, INK, font)
            figure.paste(panel, (left, top + LINE))
            left += cell[0] // 2
    return figure


def save_detections(
    path: PathLike, examples: Iterable[tuple[np.ndarray, Objects, Objects]], class_names: Sequence[str]
) -> PathLike:
    """Save the figure of `draw_detections`, atomically, and return its path.

    Args:
        path: Path. File to write; its suffix gives the format.
        examples: See `draw_detections`.
        class_names: See `draw_detections`.
    """
    return save_image(path, lambda: draw_detections(examples, class_names))
