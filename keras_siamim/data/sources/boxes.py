"""Images with boxes: the annotations as flat arrays, and their sources in TFDS and in folders with COCO's JSON files.

Boxes are x1, y1, x2, y2 in pixels of the upright stored image, from its top left corner (0, 0).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from keras_siamim.data.sources.derived import Source
from keras_siamim.data.sources.opening import tfds_builder
from keras_siamim.data.sources.records import FILE_STRIDE, RecordSource
from keras_siamim.files import listed
from keras_siamim.types import PathLike, Tensor

if TYPE_CHECKING:
    from keras_siamim.data.bad_images import Ledger

# A box that exceeds its image by less than this, in pixels, was rounded. It is clipped without a remark.
_ROUNDING = 1e-2
# Annotations that a note names; it counts the others.
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Annotations:
    """Boxes of all images of a split, in the order of the images.

    Attributes:
        boxes: (objects, 4) float32: x1, y1, x2, y2 in pixels of the stored images.
        labels: (objects,) int32. Classes, from 0.
        image_index: (objects,) int64, ascending. Position of the image of each box among the images of the split.
        crowd: (objects,) bool. True if the box encloses a group of objects.
        areas: (objects,) float32. Annotated areas in pixels, those of the boxes where there are none.
        image_sizes: (images, 2) int32. Height and width of each image in pixels.
        segmentations: Tuple with the annotated segmentation of each box as it is stored, or empty. Defaults to `()`.

    Example:
        >>> boxes = np.array([[0, 0, 4, 2], [1, 1, 3, 2]], "float32")
        >>> found = annotations_of(boxes, [0, 1], [1, 1], [[4, 8], [4, 8]])[0]
        >>> [len(of_image) for of_image in found.per_image()], found.scaled((8, 8)).boxes[0].tolist()
        ([0, 2], [0.0, 0.0, 4.0, 4.0])
    """

    boxes: np.ndarray
    labels: np.ndarray
    image_index: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    image_sizes: np.ndarray
    segmentations: tuple[Any, ...] = ()

    def kept(self, objects: np.ndarray, images: np.ndarray) -> Annotations:
        """Return the annotations of some objects and images.

        Args:
            objects: (objects,) bool. True for those to keep.
            images: (kept images,) int64, ascending. Positions of the images to keep, with all images of these objects.

        Returns:
            `Annotations`, whose images have new positions: those in `images`.
        """
        rows = np.flatnonzero(objects)
        return Annotations(
            self.boxes[rows],
            self.labels[rows],
            np.searchsorted(images, self.image_index[rows]),
            self.crowd[rows],
            self.areas[rows],
            self.image_sizes[images],
            tuple(self.segmentations[row] for row in rows) if self.segmentations else (),
        )

    @property
    def counts(self) -> np.ndarray:
        """Number of boxes of each image, (images,) int64."""
        return np.bincount(self.image_index, minlength=len(self.image_sizes))

    def per_image(self) -> list[np.ndarray]:
        """Return the boxes of each image, a list of (boxes, 4) float32."""
        return np.split(self.boxes, np.cumsum(self.counts)[:-1])

    def scaled(self, size: tuple[int, int]) -> Annotations:
        """Return the annotations of images that are resized to one size, without keeping their aspects.

        Args:
            size: Tuple (height, width) in pixels. `(1, 1)` gives boxes relative to the image.

        Returns:
            `Annotations`. Segmentations stay as they are stored.
        """
        factors = np.array(size, "float64") / self.image_sizes
        factors = np.concatenate([factors[:, ::-1], factors[:, ::-1]], axis=1)[self.image_index]
        return dataclasses.replace(
            self,
            boxes=(self.boxes * factors).astype("float32"),
            areas=(self.areas * factors[:, 0] * factors[:, 1]).astype("float32"),
            image_sizes=np.broadcast_to(np.array(size, "int32"), self.image_sizes.shape),
        )

    def single(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the box of each image that has one, for protocols with one box per image.

        Returns:
            (used,) int64 positions of these images, and their boxes (used, 4) float32, relative to the image, in
            [0, 1].

        Raises:
            ValueError: If an image has several boxes, or no image has one.
        """
        counts = self.counts
        if counts.max(initial=0) != 1:
            raise ValueError(
                f"`annotations` must have at most one box per image, and one at all. Received: up to "
                f"{counts.max(initial=0)} boxes per image."
            )
        return self.image_index, np.clip(self.scaled((1, 1)).boxes, 0, 1)

    def padded(self) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (images, most, 4) float32 and labels (images, most) int32, padded with zeros and with -1."""
        counts = self.counts
        columns = np.arange(len(self.boxes)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (len(self.image_sizes), max(1, counts.max(initial=0)))
        boxes, labels = np.zeros((*shape, 4), "float32"), np.full(shape, -1, "int32")
        boxes[self.image_index, columns], labels[self.image_index, columns] = self.boxes, self.labels
        return boxes, labels


def annotations_of(
    boxes: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    image_index: Sequence[int] | np.ndarray,
    image_sizes: Sequence[Sequence[int]] | np.ndarray,
    crowd: Sequence[bool] | np.ndarray | None = None,
    areas: np.ndarray | None = None,
    segmentations: Sequence[Any] = (),
    names: Sequence[Any] = (),
) -> tuple[Annotations, tuple[str, ...]]:
    """Clip boxes to their images, leave out those without area, and sort them by image.

    Args:
        boxes: (objects, 4) floats, finite: x1, y1, x2, y2 in pixels.
        labels: (objects,) integers.
        image_index: (objects,) integers in [0, images).
        image_sizes: (images, 2) integers, height and width.
        crowd: (objects,) booleans, or `None` for none. Defaults to `None`.
        areas: (objects,) floats, or `None` for the areas of the boxes. Defaults to `None`.
        segmentations: Sequence of one object per box, or empty. Defaults to `()`.
        names: Sequence of the names of the boxes in the notes, or empty. Defaults to `()`.

    Returns:
        The `Annotations`, and a tuple of notes with the numbers and the first names of clipped and of left out boxes.

    Example:
        >>> annotations_of(np.array([[-2, 0, 4, 2], [1, 5, 3, 9]]), [0, 0], [0, 0], [[8, 8]])[1]
        ('2 of 2 boxes were clipped to their images',)
    """
    boxes = np.asarray(boxes, "float64").reshape(-1, 4)
    labels, image_index = np.asarray(labels, "int32"), np.asarray(image_index, "int64")
    image_sizes = np.asarray(image_sizes, "int32").reshape(-1, 2)
    crowd = np.zeros(len(boxes), bool) if crowd is None else np.asarray(crowd, bool)
    limits = np.tile(image_sizes[image_index][:, ::-1], 2)
    clipped = np.clip(boxes, 0, limits)
    outside = np.abs(clipped - boxes).max(axis=1, initial=0) > _ROUNDING
    sizes = clipped[:, 2:] - clipped[:, :2]
    kept = (sizes > 0).all(axis=1)
    areas = np.prod(sizes, axis=1) if areas is None else np.asarray(areas, "float64")
    order = np.flatnonzero(kept)[np.argsort(image_index[kept], kind="stable")]
    notes = []
    for chosen, what in (
        (outside & kept, "were clipped to their images"),
        (~kept, "were left out, since they have no area inside their images"),
    ):
        if count := int(np.sum(chosen)):
            first = (
                f": {listed((str(names[row]) for row in np.flatnonzero(chosen).tolist()), most=_NAMED)}"
                if names
                else ""
            )
            notes.append(f"{count:,} of {len(boxes):,} boxes {what}{first}")
    found = Annotations(
        clipped[order].astype("float32"),
        labels[order],
        image_index[order],
        crowd[order],
        areas[order].astype("float32"),
        image_sizes,
        tuple(segmentations[index] for index in order) if len(segmentations) else (),
    )
    return found, tuple(notes)


@dataclasses.dataclass(frozen=True)
class BoxSource:
    """Images with boxes.

    Attributes:
        images: Source of the images. Its order without shuffling is that of `annotations`.
        annotations: `Annotations` of all images.
        class_names: Tuple of strings. Names of the classes.
        category_ids: Tuple of integers. Id of each class in files of detections.
        image_ids: Tuple of integers. Id of each image in files of detections.
        notes: Tuple of strings. Remarks for the user, such as the number of boxes that were left out. Defaults to `()`.
        annotation_file: String. Path of the JSON file of the annotations, or empty. Defaults to `""`.
    """

    images: Source
    annotations: Annotations
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_ids: tuple[int, ...]
    notes: tuple[str, ...] = ()
    annotation_file: str = ""

    @property
    def name(self) -> str:
        """Name in messages."""
        return self.images.name

    @property
    def size(self) -> int:
        """Number of images."""
        return self.images.size

    @property
    def images_per_class(self) -> np.ndarray:
        """Number of images that have each class, (classes,) int64."""
        pairs = np.unique(np.stack([self.annotations.image_index, self.annotations.labels], axis=1), axis=0)
        return np.bincount(pairs[:, 1], minlength=len(self.class_names))

    def indices(self, positions: np.ndarray) -> np.ndarray:
        """Return the indices of images in their source from their positions in `annotations`, (images,) int64."""
        if not isinstance(self.images, RecordSource):
            return np.asarray(positions, "int64")
        ends = np.cumsum(self.images.lengths)
        files = np.searchsorted(ends, positions, side="right")
        return files * FILE_STRIDE + positions - (ends - np.array(self.images.lengths))[files]

    def positions(self, index: Tensor) -> Tensor:
        """Return the positions of images in `annotations` from their indices in the source, int64 tensors."""
        if not isinstance(self.images, RecordSource):
            return tf.convert_to_tensor(index, tf.int64)
        starts = tf.constant(np.cumsum([0, *self.images.lengths]), tf.int64)
        return tf.gather(starts, index // FILE_STRIDE) + index % FILE_STRIDE


def open_boxes(data: PathLike, split: str = "train", lvis: bool = False, ledger: Ledger | None = None) -> BoxSource:
    """Open images with boxes.

    Args:
        data: String or path: `"tfds:NAME"`, `"tfds_dir:PATH"` or the path of a directory that TFDS prepared, see
            `tfds_boxes`; or a folder in the layout of COCO or LVIS, see `coco.coco_folder`.
        split: String. Name of a split; `val` replaces a missing `test`. Defaults to `"train"`.
        lvis: Whether to read the annotations of LVIS, in a folder. Defaults to `False`.
        ledger: `Ledger` of missing and unreadable images of a folder, which are left out. Defaults to `None`: the first
            one is an error.

    Returns:
        A `BoxSource`.

    Raises:
        ValueError: If `data` or `split` does not exist, or the data set has no boxes; or for `lvis` and a data set of
            TFDS.
    """
    # These modules import this one.
    from keras_siamim.data.sources.coco import coco_folder
    from keras_siamim.data.sources.tfds_objects import tfds_boxes

    builder = tfds_builder(data)
    if builder is None:
        return coco_folder(data, split, lvis, ledger)
    if lvis:
        raise ValueError(
            f"`data` must be a folder with LVIS's JSON files. Received: {str(data)!r}, a data set of TFDS."
        )
    return tfds_boxes(builder, split)
