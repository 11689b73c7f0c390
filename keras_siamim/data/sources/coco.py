"""Images with boxes in COCO's format: a JSON file of annotations and a folder of images."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_siamim.data.error_handling import IMAGE
from keras_siamim.data.images import decoding
from keras_siamim.data.sources.boxes import BoxSource, annotations_of
from keras_siamim.data.sources.indexed import IndexedSource
from keras_siamim.data.sources.splits import choose_split
from keras_siamim.files import printable
from keras_siamim.types import PathLike

_HEADER_BYTES = 1 << 16  # most headers end before; the complete file is read if this is too little


def coco_folder(data: PathLike, split: str = "train") -> BoxSource:
    """Open a folder with annotations in COCO's format.

    The folder has files `annotations/instances_NAME.json` with the images in `NAME` or `images/NAME`, such as
    `instances_val2017.json` and `val2017`. The name of a split is `NAME` without its digits. Or the folder has
    `instances.json` and `images`, which are split `train`.

    Args:
        data: Path of the folder.
        split: String. Name of a split; `val` replaces a missing `test`. Defaults to `"train"`.

    Returns:
        A `BoxSource`.

    Raises:
        ValueError: If there is no such folder or split, or for the reasons of `coco_source`.
    """
    root = Path(data)
    named = {}
    for path in sorted(root.glob("annotations/instances_*.json")):
        name = path.stem.removeprefix("instances_")
        named[re.sub(r"\d+$", "", name) or name] = (path, name)
    if not named and (root / "instances.json").is_file():
        named["train"] = (root / "instances.json", "")
    if not named:
        raise ValueError(
            "`data` must be a data set of TFDS, or a folder with annotations/instances_NAME.json or instances.json. "
            f"Received: {os.fspath(data)!r}."
        )
    chosen = choose_split(split, list(named))
    if chosen is None:
        raise ValueError(f"`split` must be one of {', '.join(named)} in {os.fspath(data)!r}. Received: {split!r}.")
    path, name = named[chosen]
    folders = [root / "images" / name, root / name] if name else [root / "images"]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise ValueError(f"`data` must have the images of {path} in {folders[0]}. Received: no such folder.")
    return coco_source(path, folder)


def coco_source(annotations: PathLike, images: PathLike) -> BoxSource:
    """Return the images and boxes of a JSON file in COCO's format.

    Classes are numbered from 0 in the order of their category ids. Images without annotations are kept. Boxes are
    clipped to their images, and boxes without area are left out; the source's notes report how many. Segmentations stay
    as the file has them.

    Args:
        annotations: Path of the JSON file, with `images`, `annotations` and `categories`.
        images: Path of the folder of the images.

    Returns:
        A `BoxSource` in the order of `images` in the file.

    Raises:
        ValueError: If the file is malformed, ids are not unique, an annotation has an unknown image or category or an
            invalid box, or an image is missing or has another size. The message names the file and the entry.
    """
    path, folder = Path(annotations), Path(images)
    content = _read(path)
    ids, files, sizes = _images(content["images"], path, folder)
    categories = _by_id(content["categories"], "category", path)
    if not categories:
        raise ValueError(f"`annotations` must have categories. Received: {str(path)!r} with none.")
    class_of = {number: index for index, number in enumerate(sorted(categories))}
    position_of = {number: index for index, number in enumerate(ids)}
    entries = list(_by_id(content["annotations"], "annotation", path).values())
    for entry in entries:
        _check_annotation(entry, position_of, class_of, path)
    corners = np.array([entry["bbox"] for entry in entries], "float64").reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    found, notes = annotations_of(
        corners,
        [class_of[entry["category_id"]] for entry in entries],
        [position_of[entry["image_id"]] for entry in entries],
        sizes,
        [bool(entry.get("iscrowd", 0)) for entry in entries],
        np.array([entry.get("area", entry["bbox"][2] * entry["bbox"][3]) for entry in entries], "float64"),
        [entry.get("segmentation") for entry in entries],
    )
    paths = tf.constant([os.fsencode(file) for file in files])
    source = IndexedSource(
        printable(str(path)),
        len(files),
        lambda index: {IMAGE: tf.io.read_file(paths[index])},
        locate=lambda index: str(files[index]),
        notes=notes,
    )
    names = tuple(printable(str(categories[number].get("name", number))) for number in class_of)
    return BoxSource(source, found, names, tuple(class_of), tuple(ids), notes)


def _read(path: Path) -> dict[str, list[dict]]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"`annotations` must be a readable file. Received: {str(path)!r}, {error.strerror}.") from None
    except ValueError as error:
        raise ValueError(f"`annotations` must be a JSON file. Received: {str(path)!r}, {error}.") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"`annotations` must have a list {key!r}. Received: {str(path)!r} without one.")
    return content


def _by_id(entries: Iterable[dict], kind: str, path: Path) -> dict[int, dict]:
    found: dict[int, dict] = {}
    for position, entry in enumerate(entries):
        number = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(number, int):
            raise ValueError(
                f"`annotations` must have an integer id per {kind}. Received: {str(path)!r} with {number!r} for {kind} "
                f"{position} of the list."
            )
        if number in found:
            raise ValueError(f"`annotations` must have unique ids. Received: {str(path)!r}, {kind} {number} twice.")
        found[number] = entry
    return found


def _images(entries: list[dict], path: Path, folder: Path) -> tuple[list[int], list[Path], list[tuple[int, int]]]:
    """Return the ids, files and sizes (height, width) of the images, after comparing the sizes with the files."""
    by_id = _by_id(entries, "image", path)
    files, sizes = [], []
    for number, entry in by_id.items():
        size, name = (entry.get("height"), entry.get("width")), entry.get("file_name")
        if not isinstance(name, str) or not all(isinstance(side, int) and side > 0 for side in size):
            raise ValueError(
                "`annotations` must have file_name, height and width of each image. Received: "
                f"{str(path)!r}, image {number} with {name!r}, {size[0]} and {size[1]}."
            )
        file = folder / name
        if not file.is_file():
            raise ValueError(
                f"`images` must hold all images of {str(path)!r}. Received: {str(folder)!r} without {name!r}, image "
                f"{number}."
            )
        stored = _size_of(file)
        if stored != size:
            found = "can't be read" if stored is None else f"has {stored[0]} x {stored[1]}"
            raise ValueError(
                f"`images` must have the sizes that {str(path)!r} states. Received: {str(file)!r}, which {found} where "
                f"{size[0]} x {size[1]} (height x width) is stated."
            )
        files.append(file)
        sizes.append(size)
    if not files:
        raise ValueError(f"`annotations` must have images. Received: {str(path)!r} with none.")
    return list(by_id), files, sizes


def _size_of(file: Path) -> tuple[int, int] | None:
    with open(file, "rb") as opened:
        header = opened.read(_HEADER_BYTES)
        return decoding.shape_of(header) or decoding.shape_of(header + opened.read())


def _check_annotation(entry: dict, images: dict[int, int], classes: dict[int, int], path: Path) -> None:
    def refuse_unless(valid: bool, rule: str, value: Any) -> None:
        if not valid:
            raise ValueError(
                f"`annotations` must have {rule}. Received: {str(path)!r}, annotation {entry['id']} with {value!r}."
            )

    image, category, box = entry.get("image_id"), entry.get("category_id"), entry.get("bbox")
    refuse_unless(image in images, "an image in `images` per annotation", image)
    refuse_unless(category in classes, "a category in `categories` per annotation", category)
    valid = isinstance(box, list) and len(box) == 4 and all(isinstance(x, int | float) for x in box)
    refuse_unless(valid and all(map(math.isfinite, box or ())), "a bbox of four finite numbers per annotation", box)
