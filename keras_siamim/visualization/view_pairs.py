"""Figures of view pairs: their crops on the image, masked patches and corresponding patches."""

import colorsys
import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_siamim.data.views import color, geometry
from keras_siamim.types import ArrayLike, PathLike
from keras_siamim.visualization.writing import save_image

if TYPE_CHECKING:
    from keras_siamim.data.masking import Masking
    from keras_siamim.data.sources import IndexedSource, RecordSource
    from keras_siamim.data.views.paired_views import PairedViews

HEIGHT, GAP, LINE = 288, 14, 3
MAX_WIDTH = 2 * HEIGHT
BACKGROUND, INK = (255, 255, 255), (40, 40, 40)
COLORS = {1: (230, 110, 0), 2: (0, 110, 220)}
MASKED, HATCHING, HATCH = (120, 120, 120), (200, 200, 200), 9


def save_pairs(
    path: PathLike,
    source: "IndexedSource | RecordSource",
    views: "PairedViews",
    masking: "Masking | None" = None,
    *,
    count: int = 4,
    seed: int = 0,
    epoch: int = 0,
) -> PathLike:
    """Save a figure of the first view pairs of a data source.

    Args:
        path: Path. File to write; its suffix gives the format.
        source: Source of `sources.open_source`. Images.
        views: `PairedViews` with two views. Augmentation.
        masking: `masking.Masking` or None. Masks of view 1; None omits them. Defaults to None.
        count: int. Number of pairs, one per row. Defaults to 4.
        seed: int. Seed of the image order and the masks, as in `pipeline.training_batches`. Defaults to 0.
        epoch: int. Epoch of the random parameters. Defaults to 0.

    Returns:
        The path.

    Raises:
        ValueError: If no image of the source can be read, or no image format has the suffix. No file is written.
    """
    return save_image(path, lambda: _draw_pairs(source, views, masking, count, seed, epoch))


def _draw_pairs(source, views, masking, count, seed, epoch):
    from keras_siamim.data.error_handling import decoded

    rows = []
    for example in (
        source.examples(seed, epoch, shuffle=True).map(decoded).ignore_errors().take(count).as_numpy_iterator()
    ):
        image, index = example["image"], example["index"]
        boxes, samples = views.draw(index, epoch, *image.shape[:2])
        view_1, view_2 = views.color(views.cut(image, boxes)[None], samples[None])
        masks = masking.masks(seed, epoch, [index])[0].numpy() if masking else None
        grid = masking.grid if masking else (6, 6)
        rows.append(draw_pair(image, boxes.numpy(), np.asarray(view_1[0]), np.asarray(view_2[0]), grid, masks))
    if not rows:
        raise ValueError(f"`source` must hold readable images. Received: {source.name}, without a readable image.")
    return sheet(rows)


def sheet(rows: list[Image.Image]) -> Image.Image:
    """Stack figures vertically, below one line of legend.

    Args:
        rows: List of PIL images. Figures of `draw_pair`.

    Returns:
        A PIL image.

    Example:
        >>> figure = sheet([Image.new("RGB", (2000, 100))] * 3)
        >>> figure.size
        (2000, 324)
    """
    text = (
        "left: image, orange box = view 1, blue box = view 2, dot = the view's top left corner (right if flipped)   "
        "middle: view 1, masked patches hatched, blue frame = view 2   right: view 2, orange frame = view 1"
    )
    font = ImageFont.load_default(size=13)
    width = max([row.width for row in rows] + [math.ceil(font.getlength(text)) + 2 * GAP])
    result = Image.new("RGB", (width, 24 + sum(row.height for row in rows)), BACKGROUND)
    ImageDraw.Draw(result).text((GAP, 5), text, INK, font)
    top = 28
    for row in rows:
        result.paste(row, (0, top))
        top += row.height
    return result


def draw_pair(
    image: np.ndarray,
    boxes: np.ndarray,
    view_1: np.ndarray,
    view_2: np.ndarray,
    grid: tuple[int, int],
    masks: ArrayLike | None = None,
) -> Image.Image:
    """Draw one view pair: the image, view 1 and view 2, with lines between corresponding patches.

    Args:
        image: `(height, width, 3)` uint8. Source image.
        boxes: `(2, 5)` ints. Crops of the views.
        view_1: `(height, width, 3)` float32. Normalized online view.
        view_2: `(height, width, 3)` float32. Normalized target view.
        grid: `(rows, columns)` ints. Patches of a view.
        masks: `(rows, columns)` bool or None. True for the masked patches of view 1. Defaults to None.

    Returns:
        A PIL image.

    Example:
        >>> boxes, view = np.array([[0, 0, 40, 40, 0], [8, 8, 32, 40, 1]]), np.zeros((32, 32, 3), "float32")
        >>> draw_pair(np.zeros((48, 64, 3), "uint8"), boxes, view, view, grid=(4, 4)).mode
        'RGB'
    """
    panels = [_panel(pixels) for pixels in (image, color.denormalize(view_1), color.denormalize(view_2))]
    if masks is not None:
        panels[1] = _masked(panels[1], masks)
    lefts = np.cumsum([GAP] + [panel.width + 3 * GAP for panel in panels])
    row = Image.new("RGB", (int(lefts[-1]), HEIGHT + GAP), BACKGROUND)
    for panel, left in zip(panels, lefts, strict=False):
        row.paste(panel, (int(left), (row.height - panel.height) // 2))

    def to_pixels(panel, points):
        # Convert points (y, x) of a panel, in [0, 1], to pixels (x, y) of the row.
        size = panels[panel].size
        return [(lefts[panel] + x * size[0], (row.height - size[1]) / 2 + y * size[1]) for y, x in points]

    affine = geometry.affine_of_crops(boxes[0], boxes[1], image.shape[1])
    inverse = geometry.affine_of_crops(boxes[1], boxes[0], image.shape[1])
    draw = ImageDraw.Draw(row)
    for view, box in enumerate(boxes, start=1):
        corners = geometry.view_to_image(_corners((0, 0), (1, 1)), box, image.shape[1]) / image.shape[:2]
        _frame(draw, to_pixels(0, corners), COLORS[view])
        _dot(draw, to_pixels(0, corners[:1])[0], COLORS[view])
    for panel, view, relative in ((1, 2, affine), (2, 1, inverse)):
        other = geometry.view_2_to_view_1(_corners((0, 0), (1, 1)), relative).clip(0, 1)
        if np.ptp(other, axis=0).min() > 0:
            _frame(draw, to_pixels(panel, other), COLORS[view])
    _join(draw, to_pixels, affine, grid)
    return row


def _join(draw, to_pixels, affine, grid):
    centers = geometry.patch_centers(grid)
    mapped = geometry.view_2_to_view_1(centers, affine)
    seen = np.flatnonzero(((mapped > 0.02) & (mapped < 0.98)).all(-1))
    half = np.array([0.5 / grid[0], 0.5 / grid[1]])
    chosen = _spread(seen, centers)
    for k, patch in enumerate(chosen):
        tint = tuple(int(255 * level) for level in colorsys.hsv_to_rgb(k / len(chosen), 1.0, 0.85))
        corners = _corners(centers[patch] - half, centers[patch] + half)
        _frame(draw, to_pixels(2, corners), tint)
        _frame(draw, to_pixels(1, geometry.view_2_to_view_1(corners, affine).clip(0, 1)), tint)
        draw.line([*to_pixels(1, mapped[patch : patch + 1]), *to_pixels(2, centers[patch : patch + 1])], tint, 1)


def _spread(seen, centers, count=6):
    # Farthest-point sampling: each patch is the farthest from those already taken.
    if not len(seen):
        return []
    taken = [seen[np.argmin(centers[seen].sum(-1))]]
    while len(taken) < min(count, len(seen)):
        distance = np.abs(centers[seen][:, None] - centers[taken]).sum(-1).min(1)
        taken.append(seen[np.argmax(distance)])
    return taken


def _masked(panel, masks):
    # Dimmed and hatched, so that masks are visible on gray and dark images too.
    covered = Image.blend(panel, Image.new("RGB", panel.size, MASKED), 0.6)
    draw = ImageDraw.Draw(covered)
    for offset in range(-panel.height, panel.width, HATCH):
        draw.line([offset, panel.height, offset + panel.height, 0], HATCHING, 1)
    opacity = Image.fromarray(np.where(masks, 255, 0).astype("uint8")).resize(panel.size, Image.NEAREST)
    return Image.composite(covered, panel, opacity)


def _panel(pixels):
    image = Image.fromarray(pixels)
    scale = min(HEIGHT / image.height, MAX_WIDTH / image.width)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.NEAREST if scale > 2 else Image.BICUBIC)


def _corners(low, high):
    return np.array([[low[0], low[1]], [low[0], high[1]], [high[0], high[1]], [high[0], low[1]]])


def _frame(draw, corners, tint):
    draw.line([*corners, corners[0]], tint, LINE)


def _dot(draw, point, tint):
    x, y = point
    draw.ellipse([x - 6, y - 6, x + 6, y + 6], tint, BACKGROUND)
