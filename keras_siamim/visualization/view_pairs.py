"""Pictures of view pairs: where both lie on the image, what is masked, and which patches correspond."""

import colorsys
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_siamim.data.views import color, geometry

HEIGHT, GAP, LINE = 288, 14, 3
WIDEST = 2 * HEIGHT
BACKGROUND, INK = (255, 255, 255), (40, 40, 40)
COLORS = {1: (230, 110, 0), 2: (0, 110, 220)}
MASKED, HATCHING, HATCH = (120, 120, 120), (200, 200, 200), 9


def save_pairs(path, source, views, masking=None, *, count=4, seed=0, epoch=0):
    """Write a sheet of the first pairs of a source as a picture, in the format of the path's suffix.

    Args:
        path: file to write.
        source: what `sources.open_source` gives.
        views: `PairedViews` with two views.
        masking: `masking.Masking`, or None to leave masks out.
        count: pairs, one a row.
        seed: int, of the order and the masks, as in `pipeline.training_batches`.
        epoch: int.

    Returns:
        The path.

    Raises:
        ValueError: If no image of the source can be read; nothing is written then.
    """
    from keras_siamim.data.error_handling import decoded

    rows = []
    for example in (
        source.examples(seed, epoch, shuffle=True).map(decoded).ignore_errors().take(count).as_numpy_iterator()
    ):
        image, index = example["image"], example["index"]
        boxes, numbers = views.draw(index, epoch, *image.shape[:2])
        pair = views.color(views.cut(image, boxes)[None], numbers[None])
        masks = masking.masks(seed, epoch, [index])[0].numpy() if masking else None
        grid = masking.grid if masking else (6, 6)
        rows.append(draw_pair(image, boxes.numpy(), *(np.asarray(view[0]) for view in pair), grid, masks))
    if not rows:
        raise ValueError(f"`source` must hold images that can be read. Received: {source.name}, where none can be.")
    sheet(rows).save(path)
    return path


def sheet(rows):
    """Put pictures under each other, below a line that explains them."""
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


def draw_pair(image, boxes, view_1, view_2, grid, masks=None):
    """Draw one pair.

    Args:
        image: `(height, width, 3)` uint8, the source.
        boxes: `(2, 5)` ints, the crops of the views.
        view_1: `(height, width, 3)` float32, normalized.
        view_2: the same.
        grid: `(rows, columns)` of patches.
        masks: `(rows, columns)` bool, True where view 1 is masked, or None.

    Returns:
        A PIL image: source, view 1, view 2, with lines between patches that show the same place.
    """
    panels = [_panel(pixels) for pixels in (image, color.denormalize(view_1), color.denormalize(view_2))]
    if masks is not None:
        panels[1] = _masked(panels[1], masks)
    lefts = np.cumsum([GAP] + [panel.width + 3 * GAP for panel in panels])
    row = Image.new("RGB", (int(lefts[-1]), HEIGHT + GAP), BACKGROUND)
    for panel, left in zip(panels, lefts, strict=False):
        row.paste(panel, (int(left), (row.height - panel.height) // 2))

    def place(panel, points):
        # Points (y, x) in 0...1 of a panel, as (x, y) pixels of the row.
        size = panels[panel].size
        return [(lefts[panel] + x * size[0], (row.height - size[1]) / 2 + y * size[1]) for y, x in points]

    affine = geometry.affine_of_crops(boxes[0], boxes[1], image.shape[1])
    inverse = geometry.affine_of_crops(boxes[1], boxes[0], image.shape[1])
    draw = ImageDraw.Draw(row)
    for number, box in enumerate(boxes, start=1):
        corners = geometry.view_to_image(_corners((0, 0), (1, 1)), box, image.shape[1]) / image.shape[:2]
        _frame(draw, place(0, corners), COLORS[number])
        _dot(draw, place(0, corners[:1])[0], COLORS[number])
    for panel, number, relative in ((1, 2, affine), (2, 1, inverse)):
        other = geometry.view_2_to_view_1(_corners((0, 0), (1, 1)), relative).clip(0, 1)
        if np.ptp(other, axis=0).min() > 0:
            _frame(draw, place(panel, other), COLORS[number])
    _join(draw, place, affine, grid)
    return row


def _join(draw, place, affine, grid):
    centers = geometry.patch_centers(grid)
    mapped = geometry.view_2_to_view_1(centers, affine)
    seen = np.flatnonzero(((mapped > 0.02) & (mapped < 0.98)).all(-1))
    half = np.array([0.5 / grid[0], 0.5 / grid[1]])
    chosen = _spread(seen, centers)
    for number, patch in enumerate(chosen):
        tint = tuple(int(255 * level) for level in colorsys.hsv_to_rgb(number / len(chosen), 1.0, 0.85))
        corners = _corners(centers[patch] - half, centers[patch] + half)
        _frame(draw, place(2, corners), tint)
        _frame(draw, place(1, geometry.view_2_to_view_1(corners, affine).clip(0, 1)), tint)
        draw.line([*place(1, mapped[patch : patch + 1]), *place(2, centers[patch : patch + 1])], tint, 1)


def _spread(seen, centers, count=6):
    # Patches far from each other: each next one is the farthest from those already taken.
    if not len(seen):
        return []
    taken = [seen[np.argmin(centers[seen].sum(-1))]]
    while len(taken) < min(count, len(seen)):
        distance = np.abs(centers[seen][:, None] - centers[taken]).sum(-1).min(1)
        taken.append(seen[np.argmax(distance)])
    return taken


def _masked(panel, masks):
    # Dimmed and hatched, so that a mask shows on gray and dark images too.
    covered = Image.blend(panel, Image.new("RGB", panel.size, MASKED), 0.6)
    draw = ImageDraw.Draw(covered)
    for offset in range(-panel.height, panel.width, HATCH):
        draw.line([offset, panel.height, offset + panel.height, 0], HATCHING, 1)
    where = Image.fromarray(np.where(masks, 255, 0).astype("uint8")).resize(panel.size, Image.NEAREST)
    return Image.composite(covered, panel, where)


def _panel(pixels):
    image = Image.fromarray(pixels)
    scale = min(HEIGHT / image.height, WIDEST / image.width)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.NEAREST if scale > 2 else Image.BICUBIC)


def _corners(low, high):
    return np.array([[low[0], low[1]], [low[0], high[1]], [high[0], high[1]], [high[0], low[1]]])


def _frame(draw, corners, tint):
    draw.line([*corners, corners[0]], tint, LINE)


def _dot(draw, point, tint):
    x, y = point
    draw.ellipse([x - 6, y - 6, x + 6, y + 6], tint, BACKGROUND)
