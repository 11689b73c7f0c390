"""Prediction across views: similarity of the predicted tokens of view 2 to its target tokens."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_siamim.visualization.layout import color_map, cover_patches, frame_patch, panel, sheet


def cosine_similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the cosine similarities of two sets of tokens.

    Args:
        first: (..., n, width) floats.
        second: (..., m, width) floats.

    Returns:
        (..., n, m) float32.

    Example:
        >>> cosine_similarity(np.array([[2.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 3.0]])).tolist()
        [[1.0, 0.0]]
    """
    first, second = (
        x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
        for x in (np.asarray(first, "float32"), np.asarray(second, "float32"))
    )
    return first @ np.swapaxes(second, -1, -2)


class Retrieval(NamedTuple):
    """Accuracies of finding the target of a prediction by the highest similarity.

    Attributes:
        place: Float in [0, 1]. Share of predictions whose own place is the most similar one in the same image.
        place_chance: Float. 1 / patches.
        image: Float in [0, 1]. Share of predictions whose own image is the most similar one at the same place.
        image_chance: Float. 1 / images.
    """

    place: float
    place_chance: float
    image: float
    image_chance: float


def retrieval(prediction: np.ndarray, target: np.ndarray) -> Retrieval:
    """Measure how often a prediction is most similar to its own target.

    Tokens that encode positions alone have a high accuracy of the place, and one at chance of the image.

    Args:
        prediction: (images, patches, width) floats.
        target: (images, patches, width) floats.

    Returns:
        A `Retrieval`. Ties count as wrong unless the first of them is right.

    Example:
        >>> tokens = np.eye(6).reshape(2, 3, 6)
        >>> retrieval(tokens, tokens)
        Retrieval(place=1.0, place_chance=0.3333333333333333, image=1.0, image_chance=0.5)
    """
    images, patches = prediction.shape[:2]
    place = cosine_similarity(prediction, target).argmax(axis=-1) == np.arange(patches)
    image = cosine_similarity(prediction.swapaxes(0, 1), target.swapaxes(0, 1)).argmax(axis=-1) == np.arange(images)
    return Retrieval(float(place.mean()), 1 / patches, float(image.mean()), 1 / images)


def spread_patches(grid: tuple[int, int], count: int) -> list[int]:
    """Return the indices of patches that are spread evenly over a grid, row by row.

    Example:
        >>> spread_patches((4, 4), 4)
        [5, 6, 9, 10]
    """
    side = max(1, round(count**0.5))
    rows, columns = (np.floor((np.arange(side) + 1) * length / (side + 1)).astype(int) for length in grid)
    return [int(row * grid[1] + column) for row in rows for column in columns]


def draw_cross_view(
    view_1: np.ndarray,
    view_2: np.ndarray,
    visible_ids: np.ndarray,
    prediction: np.ndarray,
    target: np.ndarray,
    grid_1: tuple[int, int],
    grid_2: tuple[int, int],
    found: Retrieval | None = None,
    patches: Sequence[int] | None = None,
) -> Image.Image:
    """Draw where predictions from the masked view 1 find themselves in view 2.

    One heat map per chosen patch of view 2 has the similarity of its prediction to every target token of view 2. A red
    frame marks the right place, a white one the most similar place.

    Args:
        view_1: (images, height, width, 3) floats, normalized.
        view_2: (images, height, width, 3) floats, normalized.
        visible_ids: (images, visible) integers. Visible patches of view 1.
        prediction: (images, patches, width) floats. Predicted tokens of view 2.
        target: (images, patches, width) floats. Target tokens of view 2.
        grid_1: Tuple (rows, columns) of view 1.
        grid_2: Tuple (rows, columns) of view 2.
        found: `Retrieval` that the caption states. Defaults to that of these images.
        patches: Integers. Chosen patches of view 2. Defaults to four that are spread over the grid.

    Returns:
        A PIL image, one row per image.
    """
    patches = spread_patches(grid_2, 4) if patches is None else list(patches)
    similarity = cosine_similarity(prediction, target)
    rows = []
    for number, ids in enumerate(visible_ids):
        masked = np.setdiff1d(np.arange(grid_1[0] * grid_1[1]), ids)
        second = panel(view_2[number])
        row = [cover_patches(panel(view_1[number]), grid_1, masked), second]
        for patch in patches:
            values = similarity[number, patch]
            heat = panel(color_map(values.reshape(grid_2))).resize(second.size, Image.Resampling.NEAREST)
            frame_patch(heat, grid_2, int(values.argmax()), (255, 255, 255))
            frame_patch(heat, grid_2, patch)
            row.append(heat)
        rows.append(row)
    found = retrieval(prediction, target) if found is None else found
    titles = ["masked view 1", "view 2", *(f"patch {patch}" for patch in patches)]
    caption = (
        "Similarity of the prediction of one patch of view 2, from the masked view 1, to every target token of view 2, "
        "from dark (least) to yellow (most). Red: the right place. White: the most similar place, hidden by red if it "
        f"is the right one. Right place in {found.place:.1%} of all predictions (chance {found.place_chance:.1%}); "
        f"right image among {round(1 / found.image_chance)} in {found.image:.1%} (chance {found.image_chance:.1%})."
    )
    return sheet(rows, titles, caption)
