"""Opening of images with label maps: data sets of TFDS, and folders of images and masks."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_siamim.data.error_handling import IMAGE
from keras_siamim.data.sources.folder import find_images, sub_folders
from keras_siamim.data.sources.indexed import IndexedSource
from keras_siamim.data.sources.label_maps import (
    IGNORED,
    LABEL_MAP,
    Labeling,
    LabelMapSource,
    largest_label,
    read_label_map,
)
from keras_siamim.data.sources.opening import tfds_builder
from keras_siamim.data.sources.splits import choose_split
from keras_siamim.data.sources.tfds import tfds_source
from keras_siamim.files import listed, printable
from keras_siamim.types import PathLike, Tensor

# Names of folders of label maps, next to the folder `images`.
IMAGE_FOLDER, MASK_FOLDERS = "images", ("masks", "labels", "annotations", "label_maps")
# File with one class name per line, next to these folders.
CLASS_FILE = "classes.txt"
_CAMVID = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")
# Labelings of data sets of TFDS, which do not state them.
KNOWN = {
    "scene_parse150": Labeling(tuple(f"class {number}" for number in range(1, 151)), first=1, ignored=(0,)),
    "camvid": Labeling(_CAMVID, ignored=(11,)),
}


def open_label_maps(
    data: PathLike,
    split: str = "train",
    num_classes: int | None = None,
    first_label: int | None = None,
    ignored: Sequence[int] | None = None,
    labeling: Labeling | None = None,
) -> LabelMapSource:
    """Open images with label maps.

    Without `num_classes`, the classes are those of `classes.txt`, those known of a data set of TFDS, or all labels up
    to the largest one, for which all label maps are read once.

    Args:
        data: String or path: `"tfds:NAME"`, `"tfds_dir:PATH"` or the path of a directory that TFDS prepared; or a
            folder of images and masks, see `pairs_of`.
        split: String. Name of a split; `val` replaces a missing `test`. Defaults to `"train"`.
        num_classes: int, 2 to 255, or None. Number of classes. Defaults to None.
        first_label: int. Stored label of class 0. Defaults to 0, or to what is known of the data set.
        ignored: Sequence of ints. Stored labels of pixels without a class. Defaults to 255, or to what is known of the
            data set.
        labeling: `Labeling`, such as that of another split, in place of the three arguments before. Defaults to None.

    Returns:
        A `LabelMapSource`. A label map that can't be read, has a label without a class, or has another size than its
        image is an error when it is loaded.

    Raises:
        ValueError: If `data` or `split` does not exist, images and masks do not match, or the classes are invalid.
    """
    builder = tfds_builder(data)
    known = None if builder is None else KNOWN.get(builder.info.name)
    source, label_maps, parse, names = (
        _folder_parts(Path(data), split) if builder is None else _tfds_parts(builder, split)
    )
    if labeling is None:
        if known is not None and num_classes in (None, len(known.class_names)):
            names = known.class_names
            first_label = known.first if first_label is None else first_label
            ignored = known.ignored if ignored is None else ignored
        labeling = _labeling(label_maps, names, num_classes, first_label or 0, ignored, source.name)
    images = dataclasses.replace(source, **parse(labeling))
    return LabelMapSource(images, labeling, source.notes)


def _labeling(
    label_maps: Callable[[], Iterable[bytes]],
    names: Sequence[str],
    num_classes: int | None,
    first: int,
    ignored: Sequence[int] | None,
    source: str,
) -> Labeling:
    ignored = (IGNORED,) if ignored is None else tuple(ignored)
    if num_classes is not None and names and len(names) != num_classes:
        raise ValueError(
            f"`num_classes` must be the number of names in {CLASS_FILE}, {len(names)}. Received: {num_classes}."
        )
    if num_classes is None and not names:
        num_classes = largest_label(label_maps(), ignored) + 1 - first
        if num_classes < 2:
            raise ValueError(f"`data` must have label maps of at least two classes. Received: {source} with fewer.")
        if num_classes > IGNORED:
            raise ValueError(
                f"`data` must have at most {IGNORED} classes. Received: {source} with labels up to "
                f"{num_classes - 1 + first}. Name the ignored labels."
            )
    return Labeling(tuple(names) or tuple(map(str, range(num_classes or 0))), first, ignored)


def _tfds_parts(builder: Any, split: str) -> tuple[Any, Callable, Callable, tuple[str, ...]]:
    # The source of the images, a function that reads the stored label maps, one from a labeling to the changes of the
    # source, and the names of the classes.
    import tensorflow_datasets as tfds

    source = tfds_source(builder, split)
    features = dict(builder.info.features.items())
    images = {key: value for key, value in features.items() if isinstance(value, tfds.features.Image)}
    image_key = "image" if "image" in images else next(key for key in images if images[key].shape[-1] != 1)
    found = [key for key, feature in images.items() if key != image_key and feature.shape[-1] == 1]
    if len(found) != 1:
        raise ValueError(
            "`data` must have one feature of label maps, an image of one channel. Received: "
            f"{builder.info.full_name} with {', '.join(found) or 'none'} of {', '.join(sorted(features))}."
        )
    keys = {image_key: tf.io.FixedLenFeature([], tf.string), found[0]: tf.io.FixedLenFeature([], tf.string)}

    def parse(labeling: Labeling) -> dict[str, Any]:
        def parse_record(record: Tensor) -> dict[str, Tensor]:
            parsed = tf.io.parse_single_example(record, keys)
            image = parsed[image_key]
            return {IMAGE: image, LABEL_MAP: read_label_map(labeling, image, parsed[found[0]])}

        return {"parse": parse_record, "class_names": ()}

    def label_maps() -> Iterable[bytes]:
        records = tf.data.TFRecordDataset(list(source.files))
        yield from records.map(lambda one: tf.io.parse_single_example(one, keys)[found[0]]).as_numpy_iterator()

    return source, label_maps, parse, ()


def _folder_parts(root: Path, split: str) -> tuple[Any, Callable, Callable, tuple[str, ...]]:
    images, masks = _folders_of(root, split)
    pairs = pairs_of(images, masks)
    image_paths, mask_paths = (tf.constant([bytes(path) for path in paths]) for paths in zip(*pairs, strict=True))

    def parse(labeling: Labeling) -> dict[str, Any]:
        def read(index: Tensor) -> dict[str, Tensor]:
            image, path = tf.io.read_file(image_paths[index]), mask_paths[index]
            return {IMAGE: image, LABEL_MAP: read_label_map(labeling, image, tf.io.read_file(path), path)}

        return {"read": read}

    def label_maps() -> Iterable[bytes]:
        return (mask.read_bytes() for _, mask in pairs)

    source = IndexedSource(
        printable(str(images)), len(pairs), lambda index: {}, locate=lambda index: str(pairs[index][0])
    )
    file = root / CLASS_FILE
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    return source, label_maps, parse, tuple(printable(line.strip()) for line in lines if line.strip())


def _folders_of(root: Path, split: str) -> tuple[Path, Path]:
    # The folders of the images and of the masks of a split.
    if not root.is_dir():
        raise ValueError(
            "`data` must be a data set of TFDS, or a folder of images and masks. Received: "
            f"{os.fspath(root)!r}, which is no folder."
        )

    def halves(folder: Path) -> tuple[Path, Path] | None:
        masks = [folder / name for name in MASK_FOLDERS if (folder / name).is_dir()]
        return (folder / IMAGE_FOLDER, masks[0]) if masks and (folder / IMAGE_FOLDER).is_dir() else None

    if (both := halves(root)) is None:
        inside = {folder.name: found for folder in sub_folders(root) if (found := halves(folder))}
    else:
        # images/SPLIT and masks/SPLIT, if both have the same sub-folders with the names of splits.
        names = [folder.name for folder in sub_folders(both[0]) if choose_split(folder.name, ["train", "val", "test"])]
        inside = {name: (both[0] / name, both[1] / name) for name in names if (both[1] / name).is_dir()}
        if not inside:
            inside = {"train": both}
    if not inside:
        raise ValueError(
            f"`data` must have the folders {IMAGE_FOLDER} and {' or '.join(MASK_FOLDERS)}, or one folder per split "
            f"with both. Received: {os.fspath(root)!r}."
        )
    chosen = choose_split(split, list(inside))
    if chosen is None:
        raise ValueError(f"`split` must be one of {', '.join(inside)} in {os.fspath(root)!r}. Received: {split!r}.")
    return inside[chosen]


def pairs_of(images: PathLike, masks: PathLike) -> list[tuple[Path, Path]]:
    """Match the images of a folder with the masks of another by their paths without extensions.

    Args:
        images: Path of the folder of images, with or without sub-folders.
        masks: Path of the folder of masks, PNG files.

    Returns:
        List of (image, mask), sorted by the image's path.

    Raises:
        ValueError: If an image has no mask, a mask has no image, or two files of a folder have one name.
    """
    by_name = []
    for argument, folder in (("images", images), ("masks", masks)):
        found: dict[Path, Path] = {}
        for path in find_images(folder)[0]:
            name = path.relative_to(folder).with_suffix("")
            if name in found:
                raise ValueError(
                    f"`{argument}` must have one file per name. Received: {str(found[name])!r} and {str(path)!r}."
                )
            found[name] = path
        by_name.append(found)
    files, labels = by_name
    for argument, missing, folder, kind in (
        ("masks", [str(files[name]) for name in files if name not in labels], masks, "a mask for each image"),
        ("images", [str(labels[name]) for name in labels if name not in files], images, "an image for each mask"),
    ):
        if missing:
            raise ValueError(
                f"`{argument}` must have {kind}. Received: {str(folder)!r}, without one for {len(missing):,}: "
                f"{listed(missing)}."
            )
    if not files:
        raise ValueError(f"`images` must hold images. Received: {str(images)!r}, without any.")
    return [(path, labels[name]) for name, path in files.items()]
