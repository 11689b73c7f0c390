"""Images with boxes in data sets that TFDS prepared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_siamim.data.error_handling import IMAGE, INDEX
from keras_siamim.data.images import decoding
from keras_siamim.data.sources.boxes import BoxSource, annotations_of
from keras_siamim.data.sources.records import RECORD, RecordSource
from keras_siamim.data.sources.tfds import tfds_source


def tfds_boxes(builder: Any, split: str = "train") -> BoxSource:
    """Return the images and boxes of a data set that TFDS prepared as TFRecords.

    The boxes are those of a feature `objects`, a sequence of `bbox`, `label` and possibly `is_crowd` and `area`. Or
    they are those of a feature `bbox`, one box per image, whose class is the feature `label`.

    Args:
        builder: A `tfds.core.DatasetBuilder`.
        split: String. Name of a split; `val` replaces a missing `test`. Defaults to `"train"`.

    Returns:
        A `BoxSource`, whose images and classes have their positions as ids. Without labels, all boxes have class 0,
        `"object"`.

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
    ids = tuple(range(len(names))), tuple(range(images.size))
    return BoxSource(images, annotations, names, *ids, notes=(*images.notes, *notes))


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
