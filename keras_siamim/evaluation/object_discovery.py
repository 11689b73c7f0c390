"""Object discovery without labels: TokenCut on the keys of the last attention layer, and CorLoc.

TokenCut (Wang et al., CVPR 2022, arXiv 2202.11539, section 3): a normalized cut of the graph whose nodes are the
patches of one image, and whose edges are binarized cosine similarities of their keys.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_siamim.backbones import ViTEncoder
from keras_siamim.evaluation.boxes import box_iou
from keras_siamim.evaluation.checks import check_boxes, check_tokens
from keras_siamim.evaluation.features import check_images, in_data_format_of, num_batches, run_padded
from keras_siamim.evaluation.knn import normalize
from keras_siamim.evaluation.result import EvaluationResult, stopwatch
from keras_siamim.types import ArrayLike

THRESHOLD = 0.2
_WEAK_EDGE = 1e-5  # affinity of patches below the threshold; it keeps the graph connected
# The second eigenvector is arbitrary if its eigenvalue is equal to the third, up to rounding.
_EIGENVALUE_GAP = 1e-9


def discover_object(
    keys: ArrayLike, grid: tuple[int, int], image_size: tuple[int, int], threshold: float = THRESHOLD
) -> np.ndarray | None:
    """Find the most salient object of one image.

    The affinity of two patches is 1 if the cosine of their keys exceeds `threshold`, else 1e-5. The second smallest
    generalized eigenvector of (D - A, D) is split at its mean. The foreground is the side that contains the entry with
    the largest magnitude. The object is the connected component (4 neighbors) that contains this entry.

    Args:
        keys: (patches, width) floats. Keys of the patches, row by row.
        grid: Tuple (rows, columns) of integers. Patches of the image.
        image_size: Tuple (height, width) of the image in pixels.
        threshold: Float in [-1, 1]. Defaults to 0.2.

    Returns:
        (4,) float64: x1, y1, x2, y2 in pixels, on the borders of patches. `None` if the graph has no unique second
        eigenvector, for example if all keys are similar.

    Raises:
        ValueError: If `keys` does not have one row per patch.

    Example:
        >>> keys = np.eye(2)[[0, 0, 0, 1]]
        >>> discover_object(keys, grid=(2, 2), image_size=(16, 16)).tolist()
        [8.0, 8.0, 16.0, 16.0]
    """
    from scipy import linalg, ndimage

    keys = np.asarray(keys)
    rows, columns = grid
    if keys.ndim != 2 or len(keys) != rows * columns:
        raise ValueError(f"`keys` must have {rows * columns} rows, one per patch. Received: shape {keys.shape}.")
    if len(keys) < 2:
        return None
    unit = normalize(keys).astype("float64")
    affinity = np.where(unit @ unit.T > threshold, 1.0, _WEAK_EDGE)
    # (D - A) v = λ D v is the same as S u = (1 - λ) u with S = D^-1/2 A D^-1/2 and v = D^-1/2 u.
    scale = 1 / np.sqrt(affinity.sum(axis=1))
    last = len(keys) - 2
    values, vectors = linalg.eigh(affinity * scale * scale[:, None], subset_by_index=[max(last - 1, 0), last])
    if len(values) > 1 and values[1] - values[0] < _EIGENVALUE_GAP:
        return None
    vector = scale * vectors[:, -1]
    seed = np.abs(vector).argmax()
    vector = vector * np.sign(vector[seed])  # the sign of an eigenvector is arbitrary
    components = ndimage.label((vector > vector.mean()).reshape(grid))[0]
    found = np.nonzero(components == components[np.unravel_index(seed, grid)])
    (top, left), (bottom, right) = (part(found, axis=1) for part in (np.min, np.max))
    height, width = image_size[0] / rows, image_size[1] / columns
    return np.array([left * width, top * height, (right + 1) * width, (bottom + 1) * height])


class _LastKeys(keras.Model):
    """Keys of the patches of an encoder's last block, in one graph."""

    def __init__(self, encoder):
        super().__init__(name="last_keys")
        self.encoder = encoder

    def call(self, images):
        keys = self.encoder.last_keys(in_data_format_of(self.encoder, images))
        return keras.ops.cast(keys[:, 1:], "float32")


def extract_keys(
    encoder: keras.Model, batches: Iterable[np.ndarray], verbose: int = 0
) -> tuple[np.ndarray, tuple[int, int]]:
    """Run an encoder over images and return the keys of its last attention layer.

    Args:
        encoder: `ViTEncoder`.
        batches: Iterable of images (batch, height, width, 3) float32, normalized, of one size; the first batch is the
            largest.
        verbose: Integer. 1 shows a progress bar. Defaults to 0.

    Returns:
        Keys (images, patches, width) float32 without the class token, and the grid (rows, columns) of the patches.

    Raises:
        ValueError: If `encoder` is not a `ViTEncoder`, there is no batch, or a batch is malformed.

    Example:
        >>> encoder = ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2)
        >>> keys, grid = extract_keys(encoder, [np.zeros((3, 8, 8, 3), "float32")])
        >>> keys.shape, grid
        ((3, 4, 8), (2, 2))
    """
    if not isinstance(encoder, ViTEncoder):
        raise ValueError(
            "`encoder` must be a ViTEncoder, since object discovery needs the keys of its last attention layer. "
            f"Received: {type(encoder).__name__}."
        )
    model, size = _LastKeys(encoder), None
    keys: list[np.ndarray] = []
    progress = keras.utils.Progbar(num_batches(batches), verbose=verbose, unit_name="batch")
    for images in batches:
        images = np.asarray(images)
        check_images(images)
        size = images.shape if size is None else size
        if not 0 < len(images) <= size[0] or images.shape[1:] != size[1:]:
            raise ValueError(
                f"`batches` must have images of the size of the first batch, {size[1:]}, and 1 to {size[0]} of them. "
                f"Received: shape {images.shape}."
            )
        keys += run_padded(lambda x: (model.predict_on_batch(x),), images, size[0])
        progress.add(1)
    if size is None:
        raise ValueError("`batches` must yield at least one batch. Received: none.")
    return np.concatenate(keys), (size[1] // encoder.patch_size, size[2] // encoder.patch_size)


def object_discovery(
    keys: ArrayLike,
    grid: tuple[int, int],
    boxes: Sequence[np.ndarray],
    image_size: tuple[int, int],
    threshold: float = THRESHOLD,
    min_iou: float = 0.5,
    verbose: int = 0,
) -> EvaluationResult:
    """Discover one object per image without labels, and compare it with the annotated boxes.

    Images without boxes are left out. An image whose graph has no unique cut gets a box around the complete image. Two
    notes report the numbers of such images.

    Args:
        keys: (images, patches, width) floats, from `extract_keys`. Other features of patches are possible, such as
            their pixels.
        grid: Tuple (rows, columns) of integers. Patches of an image.
        boxes: Sequence of one (boxes, 4) array per image: x1, y1, x2, y2 in pixels of an image of `image_size`.
        image_size: Tuple (height, width) of the images in pixels.
        threshold: Float in [-1, 1]. See `discover_object`. Defaults to 0.2.
        min_iou: Float in (0, 1]. Defaults to 0.5.
        verbose: Integer. 1 shows a progress bar. Defaults to 0.

    Returns:
        An `EvaluationResult` with `corloc`, the share of images whose box has an IoU of at least `min_iou` with any
        annotated box, `mean_iou` with the closest one, and `corloc_complete_image` of a box around the complete image.

    Raises:
        ValueError: If an array is malformed, no image has a box, or a setting is out of its range.

    Example:
        >>> keys, boxes = np.eye(2)[[[0, 0, 0, 1]]], [np.array([[8, 8, 16, 16]])]
        >>> object_discovery(keys, (2, 2), boxes, image_size=(16, 16)).numbers["corloc"]
        1.0
    """
    keys = check_tokens(keys, "keys")
    if len(grid) != 2 or grid[0] * grid[1] != keys.shape[1]:
        raise ValueError(f"`grid` must have {keys.shape[1]} patches, as `keys` has. Received: {grid}.")
    if len(boxes) != len(keys):
        raise ValueError(f"`boxes` must have one array per image, {len(keys)}. Received: {len(boxes)}.")
    for name, value, low in (("threshold", threshold, -1), ("min_iou", min_iou, 0)):
        if not low <= value <= 1:
            raise ValueError(f"`{name}` must be in [{low}, 1]. Received: {value}.")
    used = [index for index, found in enumerate(boxes) if len(found)]
    if not used:
        raise ValueError("`boxes` must hold at least one box. Received: none in any image.")
    complete = np.array([0, 0, image_size[1], image_size[0]], "float64")
    progress = keras.utils.Progbar(len(used), verbose=verbose, unit_name="image")
    overlaps: dict[str, list[Any]] = {"discovered": [], "complete": []}
    uncut = 0
    with stopwatch() as seconds:
        for index in used:
            annotated = check_boxes(boxes[index], f"boxes[{index}]")
            box = discover_object(keys[index], grid, image_size, threshold)
            uncut += box is None
            overlaps["discovered"].append(box_iou(complete if box is None else box, annotated).max())
            overlaps["complete"].append(box_iou(complete, annotated).max())
            progress.add(1)
    notes = []
    if len(used) < len(keys):
        notes.append(f"{len(keys) - len(used)} of {len(keys)} images without boxes were left out.")
    if uncut:
        notes.append(f"{uncut} of {len(used)} images have no unique cut; their box is the complete image.")
    return EvaluationResult(
        protocol="object_discovery",
        numbers={
            "corloc": float(np.mean(np.array(overlaps["discovered"]) >= min_iou)),
            "mean_iou": float(np.mean(overlaps["discovered"])),
            "corloc_complete_image": float(np.mean(np.array(overlaps["complete"]) >= min_iou)),
        },
        settings={"threshold": threshold, "min_iou": min_iou, "image_size": list(image_size), "grid": list(grid)},
        data={
            "images": len(used),
            "boxes": int(sum(len(found) for found in boxes)),
            "patches": keys.shape[1],
            "width": keys.shape[2],
        },
        seed=None,
        seconds=seconds(),
        notes=tuple(notes),
    )
