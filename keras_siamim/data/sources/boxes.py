"""Images with boxes: the annotations as flat arrays, and their sources in TFDS and in folders with COCO's JSON files.

Boxes are x1, y1, x2, y2 in pixels of the upright stored image, from its top left corner (0, 0).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_siamim.data.error_handling import IMAGE, INDEX
from keras_siamim.data.images import decoding
from keras_siamim.data.sources.derived import Source
from keras_siamim.data.sources.opening import tfds_builder
from keras_siamim.data.sources.records import FILE_STRIDE, RECORD, RecordSource
from keras_siamim.data.sources.tfds import tfds_source
from keras_siamim.types import PathLike, Tensor

# A box that exceeds its image by less than this, in pixels, was rounded. It is clipped without a remark.
_ROUNDING = 1e-2


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

    Returns:
        The `Annotations`, and a tuple of notes with the numbers of clipped and of left out boxes.

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
    if count := int(np.sum(outside & kept)):
        notes.append(f"{count:,} of {len(boxes):,} boxes were clipped to their images")
    if count := int(np.sum(~kept)):
        notes.append(f"{count:,} of {len(boxes):,} boxes were left out, since they have no area inside their images")
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
        category_ids: Tuple of integers. Number of each class in the file, or empty. Defaults to `()`.
        image_ids: Tuple of integers. Number of each image in the file, or empty. Defaults to `()`.
        notes: Tuple of strings. Remarks for the user, such as the number of boxes that were left out. Defaults to `()`.
    """

    images: Source
    annotations: Annotations
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...] = ()
    image_ids: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name in messages."""
        return self.images.name

    @property
    def size(self) -> int:
        """Number of images."""
        return self.images.size

    def positions(self, index: Tensor) -> Tensor:
        """Return the positions of images in `annotations` from their indices in the source, int64 tensors."""
        if not isinstance(self.images, RecordSource):
            return tf.convert_to_tensor(index, tf.int64)
        starts = tf.constant(np.cumsum([0, *self.images.lengths]), tf.int64)
        return tf.gather(starts, index // FILE_STRIDE) + index % FILE_STRIDE


def open_boxes(data: PathLike, split: str = "train") -> BoxSource:
    """Open images with boxes.

    Args:
        data: String or path: `"tfds:NAME"`, `"tfds_dir:PATH"` or the path of a directory that TFDS prepared, see
            `tfds_boxes`; or a folder in the layout of COCO, see `coco.coco_folder`.
        split: String. Name of a split; `val` replaces a missing `test`. Defaults to `"train"`.

    Returns:
        A `BoxSource`.

    Raises:
        ValueError: If `data` or `split` does not exist, or the data set has no boxes.
    """
    from keras_siamim.data.sources.coco import coco_folder  # it imports this module

    builder = tfds_builder(data)
    return coco_folder(data, split) if builder is None else tfds_boxes(builder, split)


def tfds_boxes(builder: Any, split: str = "train") -> BoxSource:
    """Return the images and boxes of a data set that TFDS prepared as TFRecords.

    The boxes are those of a feature `objects`, a sequence of `bbox`, `label` and possibly `is_crowd` and `area`. Or
    they are those of a feature `bbox`, one box per image, whose class is the feature `label`.

    Args:
        builder: A `tfds.core.DatasetBuilder`.
        split: String. Name of a split; `val` replaces a missing `test`. Defaults to `"train"`.

    Returns:
        A `BoxSource`. Without labels, all boxes have class 0, `"object"`.

    Raises:
        ValueError: If the data set has no such split or boxes, or an image or a box can't be read.
    """
    info = builder.info
    images = tfds_source(builder, split)
    features, prefix = dict(info.features.items()), ""
    objects = getattr(features.get("objects"), "feature", None)
    if objects is not None and hasattr(objects, "items"):
        features, prefix = dict(objects.items()), "objects/"
    if "bbox" not in features or not hasattr(features["bbox"], "bbox_format"):
        raise ValueError(
            f"`builder` must have boxes as feature 'bbox' or 'objects/bbox'. Received: {info.full_name} with "
            f"{', '.join(sorted(dict(info.features.items())))}."
        )
    convert = _box_format(features["bbox"].bbox_format, info.full_name)
    scalars = {key: features[key].np_dtype for key in ("label", "is_crowd", "area") if key in features}
    boxes, sizes, columns = _read_records(images, prefix, scalars)
    index = np.repeat(np.arange(len(boxes)), [len(of_image) // 4 for of_image in boxes])
    flat = np.concatenate([np.zeros(0), *boxes]).reshape(-1, 4)
    labels = columns.get("label", np.zeros(len(flat)))
    names = tuple(getattr(features.get("label"), "names", None) or ())
    if not names:
        names = tuple(map(str, range(int(labels.max(initial=0)) + 1))) if "label" in columns else ("object",)
    annotations, notes = annotations_of(
        convert(flat, sizes[index]), labels, index, sizes, columns.get("is_crowd"), columns.get("area")
    )
    return BoxSource(images, annotations, names, notes=(*images.notes, *notes))


def _box_format(box_format: Any, name: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function from boxes of a format of TFDS and the sizes of their images to x1, y1, x2, y2 in pixels."""
    value = getattr(box_format, "value", None)
    if value not in ("REL_YXYX", "YXYX", "REL_XYXY", "XYXY"):
        raise ValueError(f"`builder` must have boxes of two corners. Received: {name}, with the format {value}.")

    def convert(boxes, sizes):
        boxes = boxes[:, [1, 0, 3, 2]] if value.endswith("YXYX") else boxes
        return boxes * np.tile(sizes[:, ::-1], 2) if value.startswith("REL") else boxes

    return convert


def _read_records(
    images: RecordSource, prefix: str, scalars: dict[str, Any]
) -> tuple[list[np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    """Read the boxes of each image, the sizes of the images, and the scalars of all boxes, in the source's order."""
    kinds = {key: tf.float32 if np.issubdtype(dtype, np.floating) else tf.int64 for key, dtype in scalars.items()}
    kinds = {f"{prefix}{key}": tf.io.RaggedFeature(kind) for key, kind in {"bbox": tf.float32, **kinds}.items()}
    boxes, sizes = [], []
    columns: dict[str, list[np.ndarray]] = {key: [] for key in scalars}
    for entries in images.order(0, 0, shuffle=False).batch(256):
        places = [images.locate(int(index)) for index in entries[INDEX]]
        if damaged := [place for place, record in zip(places, entries[RECORD].numpy(), strict=True) if not record]:
            raise ValueError(f"`builder` must have intact records. Received: {damaged[0]}, which is damaged.")
        parsed = {key: value.to_list() for key, value in tf.io.parse_example(entries[RECORD], kinds).items()}
        encoded = images.load_all(entries)[IMAGE].numpy()
        for row, place in enumerate(places):
            found = np.array(parsed[f"{prefix}bbox"][row], "float64")
            if len(found) % 4 or not np.isfinite(found).all():
                raise ValueError(f"`builder` must have boxes of four finite numbers. Received: {found} in {place}.")
            size = images.image_shape or decoding.shape_of(encoded[row])
            if size is None:
                raise ValueError(f"`builder` must have readable images. Received: {place}, which can't be read.")
            for key in scalars:
                values = parsed[f"{prefix}{key}"][row]
                if len(values) != len(found) // 4:
                    raise ValueError(
                        f"`builder` must have one {key} per box. Received: {len(values)} for {len(found) // 4} boxes "
                        f"in {place}."
                    )
                columns[key].append(np.array(values))
            boxes.append(found)
            sizes.append(size)
    return boxes, np.array(sizes, "int32"), {key: np.concatenate(values) for key, values in columns.items()}
