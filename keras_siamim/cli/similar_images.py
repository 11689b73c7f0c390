"""Tables and figures of similar images, for `keras-siamim embed`."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from keras_siamim.evaluation.similar_images import near_duplicates, nearest_images
from keras_siamim.files import write_atomically
from keras_siamim.visualization.layout import panel, sheet

# Rows of a figure, and neighbors in each.
ROWS, NEIGHBORS = 8, 5


def write_neighbors(
    features: np.ndarray, names: Sequence[str], path: Path, read: Callable[[Sequence[int]], dict[int, np.ndarray]]
) -> None:
    """Write the nearest images of each image, the most unusual image first, and draw the first rows.

    Args:
        features: (images, width) float32.
        names: Names of the images.
        path: Path of the table, a `.csv` file. The figure lies beside it as `.png`.
        read: Function from indices to images (height, width, 3) by index, for the figure.
    """
    found = nearest_images(features, NEIGHBORS)
    order, mean = found.unusual(), found.similarities.mean(axis=1)
    header = ["image", "mean_similarity"]
    header += [f"{word}_{k}" for k in range(1, found.indices.shape[1] + 1) for word in ("neighbor", "similarity")]
    rows = []
    for index in order:
        pairs = zip(found.indices[index], found.similarities[index], strict=True)
        cells = [cell for neighbor, similarity in pairs for cell in (names[neighbor], f"{similarity:.4f}")]
        rows.append([names[index], f"{mean[index]:.4f}", *cells])
    _write_table(path, header, rows)
    chosen = [[index, *found.indices[index]] for index in order[:ROWS].tolist()]
    titles = ["unusual image", *(f"neighbor {k}" for k in range(1, found.indices.shape[1] + 1))]
    _draw(path, chosen, titles, "Images that are least similar to their nearest neighbors", read)


def write_duplicates(
    features: np.ndarray,
    names: Sequence[str],
    path: Path,
    threshold: float,
    read: Callable[[Sequence[int]], dict[int, np.ndarray]],
) -> int:
    """Write the pairs of images whose features are almost equal, and draw the first ones.

    Args:
        features: (images, width) float32.
        names: Names of the images.
        path: Path of the table, a `.csv` file. The figure, if there are pairs, lies beside it as `.png`.
        threshold: Float in (0, 1]. Cosine similarity of a pair.
        read: Function from indices to images (height, width, 3) by index, for the figure.

    Returns:
        Integer, the number of pairs.
    """
    pairs = near_duplicates(features, threshold)
    rows = [[names[first], names[second], f"{similarity:.4f}"] for first, second, similarity in pairs]
    _write_table(path, ["image", "duplicate", "similarity"], rows)
    if pairs:
        chosen = [[first, second] for first, second, _ in pairs[:ROWS]]
        _draw(path, chosen, ["image", "near-duplicate"], f"{len(pairs)} pairs of almost equal features", read)
    return len(pairs)


def _write_table(path, header, rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as file:
        file.write(text.getvalue().encode())


def _draw(path, rows, titles, caption, read):
    images = read(sorted({int(index) for row in rows for index in row}))
    panels = [[panel(images[int(index)], side=112) for index in row] for row in rows]
    with write_atomically(path.with_suffix(".png")) as file:
        sheet(panels, titles, caption).save(file, format="png")
