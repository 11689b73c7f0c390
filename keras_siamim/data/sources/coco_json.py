"""Parts of JSON files in the format of COCO and LVIS, checked.

A file is refused if it contradicts itself: ids that are not unique, annotations of unknown images or categories, boxes
without four finite numbers. The errors name the file and the entry.
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

from keras_siamim.data.images import decoding

_HEADER_BYTES = 1 << 16  # most headers end before; the complete file is read if this is too little
# Frequencies of LVIS's categories: rare, common, frequent.
FREQUENCIES = ("r", "c", "f")


def read_json(path: Path) -> dict[str, list[dict]]:
    """Read a file of annotations.

    Args:
        path: Path of the JSON file.

    Returns:
        A dictionary with the lists `images`, `annotations` and `categories`.

    Raises:
        ValueError: If the file can't be read, or lacks a list.
    """
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


def by_id(entries: Iterable[dict], kind: str, path: Path) -> dict[int, dict]:
    """Return entries by their ids, in the order of the file.

    Args:
        entries: List of the file.
        kind: String. `"image"`, `"annotation"` or `"category"`.
        path: Path of the file, for errors.

    Raises:
        ValueError: If an id is no integer or not unique.
    """
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


def image_file(number: int, entry: dict, path: Path, folder: Path) -> tuple[Path, tuple[int, int]]:
    """Return the file of an image and its stated size.

    The file has the name `file_name`. Or, in LVIS, it has the last two parts of `coco_url`, such as
    `train2017/000000391895.jpg`, or the last part alone.

    Args:
        number: Integer. Id of the image.
        entry: Dictionary of the file's list `images`.
        path: Path of the file, for errors.
        folder: Path of the folder of the images.

    Returns:
        The path of the image, which may be missing, and (height, width).

    Raises:
        ValueError: If the entry has no name or no size.
    """
    size, name = (entry.get("height"), entry.get("width")), entry.get("file_name")
    parts = PurePosixPath(urlparse(str(entry.get("coco_url") or "")).path).parts[-2:]
    if name is None and parts:
        name = "/".join(part for part in parts if part != "/")
        name = name if (folder / name).is_file() or not (folder / parts[-1]).is_file() else parts[-1]
    if not isinstance(name, str) or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(
            "`annotations` must have file_name or coco_url, height and width of each image. Received: "
            f"{str(path)!r}, image {number} with {name!r}, {size[0]} and {size[1]}."
        )
    return folder / name, size  # type: ignore[return-value]


def image_failure(file: Path, size: tuple[int, int]) -> str | None:
    """Return why the file of an image does not have its stated size, or `None` if it does."""
    try:
        with open(file, "rb") as opened:
            header = opened.read(_HEADER_BYTES)
            stored = decoding.shape_of(header) or decoding.shape_of(header + opened.read())
    except FileNotFoundError:
        return "is missing"
    except (IsADirectoryError, NotADirectoryError, PermissionError):
        return "can't be read"
    if stored is None:
        return "can't be read"
    if stored != size:
        return f"has {stored[0]} x {stored[1]} where {size[0]} x {size[1]} (height x width) is stated"
    return None


def check_annotation(entry: dict, images: Container[int], classes: Container[int], path: Path) -> None:
    """Raise a `ValueError` if an annotation has an unknown image or category, or an invalid box.

    Args:
        entry: Dictionary of the file's list `annotations`.
        images: Container of the ids of all images.
        classes: Container of the ids of all categories.
        path: Path of the file, for errors.
    """

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


def check_lvis(images: dict[int, dict], categories: dict[int, dict], path: Path) -> None:
    """Raise a `ValueError` if a file lacks what LVIS has beyond COCO, or it is invalid.

    Args:
        images: Dictionary of images by id.
        categories: Dictionary of categories by id.
        path: Path of the file, for errors.
    """
    for number, category in categories.items():
        if category.get("frequency") not in FREQUENCIES:
            raise ValueError(
                f"`annotations` must have a frequency r, c or f per category. Received: {str(path)!r}, category "
                f"{number} with {category.get('frequency')!r}."
            )
    for number, image in images.items():
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            found = image.get(key)
            if not isinstance(found, list) or not all(category in categories for category in found):
                raise ValueError(
                    f"`annotations` must have a list {key} of known categories per image. Received: {str(path)!r}, "
                    f"image {number} with {found!r}."
                )
