"""Images with boxes in the format of COCO and LVIS: a JSON file of annotations and a folder of images."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from keras_siamim.data.error_handling import IMAGE
from keras_siamim.data.sources import coco_json
from keras_siamim.data.sources.boxes import BoxSource, annotations_of
from keras_siamim.data.sources.indexed import IndexedSource
from keras_siamim.data.sources.splits import choose_split
from keras_siamim.files import printable
from keras_siamim.types import PathLike

if TYPE_CHECKING:
    from keras_siamim.data.bad_images import Ledger


def coco_folder(data: PathLike, split: str = "train", lvis: bool = False, ledger: Ledger | None = None) -> BoxSource:
    """Open a folder with annotations in the format of COCO or LVIS.

    A folder of COCO has files `annotations/instances_NAME.json` with the images in `NAME` or `images/NAME`, such as
    `instances_val2017.json` and `val2017`. The name of a split is `NAME` without its digits. Or the folder has
    `instances.json` and `images`, which are split `train`.

    A folder of LVIS has files `annotations/lvis_v1_NAME.json` or `lvis_v1_NAME.json`. The images are those of COCO, in
    `train2017` and `val2017`, which may be in `images`.

    Args:
        data: Path of the folder.
        split: String. Name of a split; `val` replaces a missing `test`. Defaults to `"train"`.
        lvis: Whether to read the files of LVIS. Defaults to `False`.
        ledger: See `coco_source`. Defaults to `None`.

    Returns:
        A `BoxSource`.

    Raises:
        ValueError: If there is no such folder or split, or for the reasons of `coco_source`.
    """
    root, prefix = Path(data), "lvis_v1_" if lvis else "instances_"
    named = {}
    for path in sorted([*root.glob(f"annotations/{prefix}*.json"), *(root.glob(f"{prefix}*.json") if lvis else ())]):
        name = path.stem.removeprefix(prefix)
        named[re.sub(r"\d+$", "", name) or name] = (path, name)
    if not named and not lvis and (root / "instances.json").is_file():
        named["train"] = (root / "instances.json", "")
    if not named:
        expected = f"annotations/{prefix}NAME.json or {f'{prefix}NAME.json' if lvis else 'instances.json'}"
        raise ValueError(
            f"`data` must be a data set of TFDS, or a folder with {expected}. Received: {os.fspath(data)!r}."
        )
    chosen = choose_split(split, list(named))
    if chosen is None:
        raise ValueError(f"`split` must be one of {', '.join(named)} in {os.fspath(data)!r}. Received: {split!r}.")
    path, name = named[chosen]
    if lvis:
        return coco_source(path, root / "images" if (root / "images").is_dir() else root, ledger)
    folders = [root / "images" / name, root / name] if name else [root / "images"]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise ValueError(f"`data` must have the images of {path} in {folders[0]}. Received: no such folder.")
    return coco_source(path, folder, ledger)


def coco_source(annotations: PathLike, images: PathLike, ledger: Ledger | None = None) -> BoxSource:
    """Return the images and boxes of a JSON file in the format of COCO or LVIS.

    Classes are numbered from 0 in the order of their category ids. Images without annotations are kept. Boxes are
    clipped to their images, and boxes without area are left out; the source's notes report their number and first ids.
    Segmentations stay as the file has them.

    Args:
        annotations: Path of the JSON file, with `images`, `annotations` and `categories`.
        images: Path of the folder of the images.
        ledger: `Ledger` of images that are missing, unreadable or of another size than the file states. They are left
            out with their annotations. Defaults to `None`: the first one is an error.

    Returns:
        A `BoxSource` in the order of `images` in the file.

    Raises:
        ValueError: If the file is malformed, ids are not unique, an annotation has an unknown image or category or an
            invalid box, or an image is missing or has another size. The message names the file and the entry.
        TooManyBadImages: If more images are bad than the ledger allows.
    """
    path, folder = Path(annotations), Path(images)
    content = coco_json.read_json(path)
    entries = coco_json.by_id(content["images"], "image", path)
    categories = coco_json.by_id(content["categories"], "category", path)
    for kind, listed in (("images", entries), ("categories", categories)):
        if not listed:
            raise ValueError(f"`annotations` must have {kind}. Received: {str(path)!r} with none.")
    if any("frequency" in category for category in categories.values()):
        coco_json.check_lvis(entries, categories, path)
    objects = list(coco_json.by_id(content["annotations"], "annotation", path).values())
    class_of = {number: index for index, number in enumerate(sorted(categories))}
    for entry in objects:
        coco_json.check_annotation(entry, entries, class_of, path)

    stored = {number: coco_json.image_file(number, entry, path, folder) for number, entry in entries.items()}
    bad = _bad_images(path, stored, ledger)
    ids = [number for number in stored if number not in bad]
    position_of = {number: index for index, number in enumerate(ids)}
    objects = [entry for entry in objects if entry["image_id"] in position_of]
    corners = np.array([entry["bbox"] for entry in objects], "float64").reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    found, notes = annotations_of(
        corners,
        [class_of[entry["category_id"]] for entry in objects],
        [position_of[entry["image_id"]] for entry in objects],
        [stored[number][1] for number in ids],
        [bool(entry.get("iscrowd", 0)) for entry in objects],
        np.array([entry.get("area", entry["bbox"][2] * entry["bbox"][3]) for entry in objects], "float64"),
        [entry.get("segmentation") for entry in objects],
        [f"annotation {entry['id']}" for entry in objects],
    )
    if bad:
        first = next(iter(bad.items()))
        notes = (f"{len(bad):,} of {len(stored):,} images were left out: image {first[0]} {first[1]}", *notes)
    # Their indices differ from those of all images, so that a ledger must not take one for the other.
    name = f"{path}, readable images" if bad else str(path)
    readable = _image_source(name, [stored[number][0] for number in ids], notes)
    names = tuple(printable(str(categories[number].get("name", number))) for number in class_of)
    return BoxSource(readable, found, names, tuple(class_of), tuple(ids), notes, str(path))


def _image_source(name: str, files: list[Path], notes: tuple[str, ...] = ()) -> IndexedSource:
    paths = tf.constant([os.fsencode(file) for file in files])
    return IndexedSource(
        printable(name),
        len(files),
        lambda index: {IMAGE: tf.io.read_file(tf.gather(paths, index))},
        locate=lambda index: str(files[index]),
        notes=notes,
    )


def _bad_images(path: Path, stored: dict[int, tuple[Path, tuple[int, int]]], ledger: Ledger | None) -> dict[int, str]:
    """Return the reasons of bad images by their ids, after adding them to the ledger."""
    source = _image_source(str(path), [file for file, _ in stored.values()])
    bad = {}
    for index, (number, (file, size)) in enumerate(stored.items()):
        if (reason := coco_json.image_failure(file, size)) is None:
            continue
        if ledger is None:
            raise ValueError(
                f"`images` must hold all images of {str(path)!r} with their sizes. Received: {str(file)!r}, image "
                f"{number}, which {reason}."
            )
        bad[number] = reason
        ledger.add(source, index, reason)
    return bad


def ground_truth(source: BoxSource) -> dict[str, list[dict[str, Any]]]:
    """Return the annotations with which detections are compared.

    Args:
        source: `BoxSource`, from `open_boxes`.

    Returns:
        A dictionary in the format of COCO: the content of the source's file, for the images that it has; or one made
        from the boxes of a data set of TFDS.

    Raises:
        ValueError: If the source's file can't be read any more.
    """
    if source.annotation_file:
        content = coco_json.read_json(Path(source.annotation_file))
        held = set(source.image_ids)
        images = [image for image in content["images"] if image["id"] in held]
        objects = [entry for entry in content["annotations"] if entry["image_id"] in held]
        return {"images": images, "annotations": objects, "categories": content["categories"]}
    found = source.annotations
    columns = (found.image_index, found.labels, found.boxes.astype("float64"), found.areas, found.crowd)
    return {
        "images": [
            {"id": number, "height": int(height), "width": int(width)}
            for number, (height, width) in zip(source.image_ids, found.image_sizes, strict=True)
        ],
        "annotations": [
            # From 1: COCO's tools take 0 for no match.
            {
                "id": number,
                "image_id": source.image_ids[image],
                "category_id": source.category_ids[label],
                "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
                "area": float(area),
                "iscrowd": int(crowd),
            }
            for number, (image, label, box, area, crowd) in enumerate(zip(*columns, strict=True), start=1)
        ],
        "categories": [
            {"id": number, "name": name} for number, name in zip(source.category_ids, source.class_names, strict=True)
        ],
    }
