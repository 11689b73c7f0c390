"""Data sets that TFDS has prepared, read from their record files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_siamim.data.sources.records import RecordSource, example_parser
from keras_siamim.data.sources.splits import choose_split
from keras_siamim.files import printable

# Largest split in bytes whose labels are read to find their values, if the classes have no names.
READ_FOR_NAMES = 1 << 30


def tfds_source(builder: Any, split: str = "train") -> RecordSource:
    """Return a source of a data set that TFDS prepared as TFRecords.

    Args:
        builder: A `tfds.core.DatasetBuilder`.
        split: String. Name of a split; `val` replaces a missing `test`. Defaults to `"train"`.

    Returns:
        A `RecordSource`, with labels if the data set has a feature `label` of classes.

    Raises:
        ValueError: If the data set has no such split, another file format, or no feature of encoded images.
    """
    info = builder.info
    name = choose_split(split, list(info.splits))
    if name is None:
        raise ValueError(f"`split` must be one of {sorted(info.splits)}. Received: {split!r}.")
    if info.file_format is not None and info.file_format.value != "tfrecord":
        raise ValueError(
            f"`builder` must have a data set prepared as TFRecords. Received: {info.full_name}, prepared as "
            f"{info.file_format.value}."
        )
    files = tuple(str(path) for path in info.splits[name].filepaths)
    image_key, image = _image_feature(info)
    labels, class_names, notes = _label_feature(info, info.splits[name], files)
    height, width = image.shape[:2]
    return RecordSource(
        f"{info.full_name}, {name}",
        files,
        tuple(info.splits[name].shard_lengths),
        # TFDS stores features of one value under their names, and images encoded.
        example_parser(image_key, *labels),
        class_names,
        (height, width) if height and width else None,
        notes,
        not info.disable_shuffling,
    )


def _image_feature(info: Any) -> tuple[str, Any]:
    # Name and type of the feature with the images.
    import tensorflow_datasets as tfds

    if not isinstance(info.features, tfds.features.FeaturesDict):
        raise ValueError(
            f"`builder` must have a data set with named features. Received: {info.full_name} with {info.features}."
        )
    features = dict(info.features.items())
    found = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    key = "image" if "image" in features or len(found) != 1 else found[0]
    if key not in features:
        raise ValueError(
            f"`builder` must have a feature 'image' or one feature of images. Received: {info.full_name} with "
            f"{sorted(features)}; images: {', '.join(found) or 'none'}."
        )
    feature = features[key]
    # TFDS stores float images as bit patterns in four color channels, and tensors without encoding.
    if not isinstance(feature, tfds.features.Image) or feature.np_dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"`builder` must have encoded images of 8 or 16 bits as feature {key!r}. Received: {info.full_name} with "
            f"{feature}."
        )
    return key, feature


def _label_feature(
    info: Any, split: Any, files: Sequence[str]
) -> tuple[tuple[Any, ...], tuple[str, ...], tuple[str, ...]]:
    """Find the labels of a split.

    The class names are those of the feature. Without names, the distinct values in a small split are the classes if
    there are on average two or more images per value.

    Returns:
        The arguments of `_parser` about labels, the class names, and notes.
    """
    feature = dict(info.features.items()).get("label")
    if feature is None:
        return (None,), (), ()
    if getattr(feature, "names", None) and feature.shape == ():
        return ("label",), tuple(feature.names), ()
    is_integer = np.issubdtype(feature.np_dtype, np.integer) or feature.np_dtype == np.bool_
    if feature.shape != () or not (is_integer or feature.tf_dtype == tf.string):
        return (None,), (), (f"no labels in {info.full_name}: they are {feature}, not one class per image",)
    dtype = tf.int64 if is_integer else tf.string
    if split.num_bytes <= READ_FOR_NAMES:
        values = _values_of(files, "label", dtype)
        if 0 < len(values) <= split.num_examples / 2:
            names = values.astype(str) if is_integer else map(printable, map(os.fsdecode, values))
            return ("label", dtype, values), tuple(names), ()
    elif is_integer:
        return ("label",), (), ()
    return (None,), (), (f"no labels in {info.full_name}: {feature} has too many values to be classes",)


def _values_of(files: Sequence[str], key: str, dtype: tf.DType) -> np.ndarray:
    # The distinct values of a feature, sorted, without negative numbers.
    features = {key: tf.io.FixedLenFeature([], dtype)}
    records = tf.data.TFRecordDataset(list(files)).batch(1024)
    batches = records.map(lambda batch: tf.io.parse_example(batch, features)[key]).as_numpy_iterator()
    values = np.unique(np.concatenate([np.zeros(0, dtype.as_numpy_dtype), *batches]))
    return values[values >= 0] if dtype == tf.int64 else values
