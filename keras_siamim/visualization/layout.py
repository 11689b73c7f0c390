"""Common parts of figures: panels, heat maps, and sheets of labeled panels."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_siamim.data.views.color import denormalize
from keras_siamim.types import ArrayLike

SIDE, GAP, TEXT = 168, 8, 13
BACKGROUND, INK, MARK = (255, 255, 255), (40, 40, 40), (235, 30, 30)
# Anchors of a color map from dark blue over green to yellow, evenly spaced over [0, 1].
_COLOR_MAP = np.array([(30, 15, 70), (45, 70, 140), (30, 130, 140), (80, 190, 110), (250, 230, 60)], "float64")


def panel(pixels: np.ndarray, side: int = SIDE) -> Image.Image:
    """Return an image whose longer side has `side` pixels; enlarged pixels stay sharp.

    Args:
        pixels: (height, width, 3) uint8, or floats of a normalized image.
        side: Integer. Defaults to 168.

    Example:
        >>> panel(np.zeros((7, 14, 3), "uint8"), side=28).size
        (28, 14)
    """
    pixels = np.asarray(pixels)
    image = Image.fromarray(pixels if pixels.dtype == np.uint8 else denormalize(pixels))
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC)


def color_map(values: ArrayLike, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Return the colors of numbers, dark blue for `low` and yellow for `high`.

    Args:
        values: Array of floats.
        low: Float. Defaults to the smallest value.
        high: Float. Defaults to the largest value.

    Returns:
        Array of the same shape with one more axis, of 3 uint8.

    Example:
        >>> color_map([0.0, 1.0]).tolist()
        [[30, 15, 70], [250, 230, 60]]
    """
    values = np.asarray(values, "float64")
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    position = np.clip((values - low) / max(high - low, 1e-12), 0, 1) * (len(_COLOR_MAP) - 1)
    channels = [np.interp(position, np.arange(len(_COLOR_MAP)), _COLOR_MAP[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype("uint8")


def cell(size: tuple[int, int], grid: tuple[int, int], patch: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a patch in a panel of (width, height) pixels.

    Example:
        >>> cell((40, 20), grid=(2, 4), patch=5)
        (10, 10, 20, 20)
    """
    (width, height), (rows, columns) = size, grid
    row, column = divmod(int(patch), columns)
    left, right = (round(c * width / columns) for c in (column, column + 1))
    top, bottom = (round(r * height / rows) for r in (row, row + 1))
    return left, top, right, bottom


def frame_patch(image: Image.Image, grid: tuple[int, int], patch: int, color: tuple[int, int, int] = MARK) -> None:
    """Draw a frame around one patch of a panel, in place."""
    left, top, right, bottom = cell(image.size, grid, patch)
    ImageDraw.Draw(image).rectangle([left, top, right - 1, bottom - 1], outline=color, width=3)


def cover_patches(image: Image.Image, grid: tuple[int, int], patches: ArrayLike) -> Image.Image:
    """Return a panel with some patches covered in gray.

    Args:
        image: PIL image.
        grid: Tuple (rows, columns).
        patches: Integers. Indices of the covered patches.
    """
    covered = image.copy()
    draw = ImageDraw.Draw(covered)
    for patch in np.asarray(patches).tolist():
        left, top, right, bottom = cell(image.size, grid, patch)
        draw.rectangle([left, top, right - 1, bottom - 1], fill=(128, 128, 128))
    return covered


def sheet(rows: Sequence[Sequence[Image.Image]], titles: Sequence[str] = (), caption: str = "") -> Image.Image:
    """Return panels in rows, with one title per column and a caption above.

    Args:
        rows: Sequences of PIL images. Columns are as wide as their widest panel.
        titles: Strings, one per column. Defaults to none.
        caption: String. Lines are broken at the width of the sheet. Defaults to none.

    Example:
        >>> sheet([[Image.new("RGB", (50, 40))] * 2], titles=["a", "b"]).mode
        'RGB'
    """
    font = ImageFont.load_default(size=TEXT)
    columns = max(len(row) for row in rows)
    widths = [max([row[c].width for row in rows if c < len(row)] + [0]) for c in range(columns)]
    headings = [_wrapped(title, font, width) for title, width in zip(titles, widths, strict=False)]
    width = max(sum(widths) + GAP * (columns + 1), 320)
    lines = _wrapped(caption, font, width - 2 * GAP) if caption else []
    line_height = TEXT + 4
    top = GAP + line_height * len(lines) + line_height * max([len(heading) for heading in headings] + [0]) + GAP
    heights = [max(image.height for image in row) for row in rows]
    result = Image.new("RGB", (width, top + sum(heights) + GAP * len(rows)), BACKGROUND)
    draw = ImageDraw.Draw(result)
    for number, line in enumerate(lines):
        draw.text((GAP, GAP + number * line_height), line, INK, font)
    lefts = np.cumsum([GAP, *(width + GAP for width in widths)])
    for heading, left in zip(headings, lefts, strict=False):
        for number, line in enumerate(heading):
            draw.text((int(left), top - GAP + (number - len(heading)) * line_height), line, INK, font)
    for row, height in zip(rows, heights, strict=True):
        for image, left in zip(row, lefts, strict=False):
            result.paste(image, (int(left), top))
        top += height + GAP
    return result


def _wrapped(text, font, width):
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
