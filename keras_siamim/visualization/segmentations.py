"""Figures of segmented images beside their label maps, with a legend of the classes."""

import colorsys
import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_siamim.types import PathLike
from keras_siamim.visualization.writing import save_image

HEIGHT, GAP, LINE = 192, 10, 20
BACKGROUND, INK, NO_CLASS = (255, 255, 255), (40, 40, 40), (205, 205, 205)
# Hues advance by the golden ratio, so that neighboring classes differ; brightness alternates too.
_GOLDEN = 0.618034


def class_colors(num_classes: int) -> np.ndarray:
    """Return a color per class.

    Args:
        num_classes: Integer. Number of classes.

    Returns:
        (num_classes, 3) uint8, all different up to 255 classes.

    Example:
        >>> len(np.unique(class_colors(255), axis=0))
        255
    """
    colors = [
        colorsys.hsv_to_rgb((number * _GOLDEN) % 1, (0.85, 0.55)[number % 2], (0.95, 0.75, 0.5)[number % 3])
        for number in range(num_classes)
    ]
    return np.round(255 * np.array(colors)).astype("uint8").reshape(-1, 3)


def color_label_map(label_map: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the colors of a label map, light gray for pixels without a class.

    Args:
        label_map: (height, width) integers. Values outside [0, num_classes) have no class.
        num_classes: Integer. Number of classes.

    Returns:
        (height, width, 3) uint8.

    Example:
        >>> color_label_map(np.array([[255]]), num_classes=2).tolist()
        [[[205, 205, 205]]]
    """
    colors = np.concatenate([class_colors(num_classes), [NO_CLASS]]).astype("uint8")
    has_class = (label_map >= 0) & (label_map < num_classes)
    return colors[np.where(has_class, label_map, num_classes)]


def draw_segmentations(
    examples: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], class_names: Sequence[str]
) -> Image.Image:
    """Draw images, label maps and predictions side by side, one row per image, above a legend.

    Args:
        examples: Iterable of tuples: an image (height, width, 3) uint8, its label map and its prediction, both (height,
            width) integers. Predictions are also shown where the label map has no class.
        class_names: Strings. Names of the classes.

    Returns:
        A PIL image.

    Raises:
        ValueError: If there is no example.

    Example:
        >>> labels = np.zeros((4, 4), "uint8")
        >>> draw_segmentations([(np.zeros((4, 4, 3), "uint8"), labels, labels)], ("sky", "road")).mode
        'RGB'
    """
    count = len(class_names)
    rows = [
        [_panel(panel) for panel in (image, color_label_map(labels, count), color_label_map(predicted, count))]
        for image, labels, predicted in examples
    ]
    if not rows:
        raise ValueError("`examples` must hold at least one image. Received: none.")
    font = ImageFont.load_default(size=13)
    widths = [max(row[column].width for row in rows) for column in range(3)]
    width = sum(widths) + 4 * GAP
    legend = _legend((*class_names, "no class"), width - 2 * GAP, font)
    height = LINE + GAP + len(rows) * (HEIGHT + GAP) + legend.height + GAP
    figure = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(figure)
    lefts = [GAP, 2 * GAP + widths[0], 3 * GAP + widths[0] + widths[1]]
    for title, left in zip(("image", "labels", "prediction"), lefts, strict=True):
        draw.text((left, GAP // 2), title, INK, font)
    for number, row in enumerate(rows):
        for panel, left in zip(row, lefts, strict=True):
            figure.paste(panel, (left, LINE + GAP + number * (HEIGHT + GAP)))
    figure.paste(legend, (GAP, height - legend.height - GAP // 2))
    return figure


def save_segmentations(
    path: PathLike, examples: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], class_names: Sequence[str]
) -> PathLike:
    """Save the figure of `draw_segmentations`, atomically, and return its path.

    Args:
        path: Path. File to write; its suffix gives the format.
        examples: See `draw_segmentations`.
        class_names: See `draw_segmentations`.
    """
    return save_image(path, lambda: draw_segmentations(examples, class_names))


def _panel(pixels):
    image = Image.fromarray(pixels)
    size = (max(1, round(image.width * HEIGHT / image.height)), HEIGHT)
    return image.resize(size, Image.NEAREST)


def _legend(names, width, font):
    colors = [*class_colors(len(names) - 1).tolist(), NO_CLASS]
    column = min(width, LINE + GAP + math.ceil(max(map(font.getlength, names))))
    per_line = max(1, width // column)
    legend = Image.new("RGB", (width, LINE * -(-len(names) // per_line)), BACKGROUND)
    draw = ImageDraw.Draw(legend)
    for number, (name, color) in enumerate(zip(names, colors, strict=True)):
        left, top = column * (number % per_line), LINE * (number // per_line)
        draw.rectangle([left, top + 3, left + 13, top + 16], tuple(color), INK)
        draw.text((left + LINE, top + 2), name, INK, font)
    return legend
