"""Folders of images: search for image files, and sub-folders as splits or classes."""

import collections
import itertools
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from keras_siamim.data.error_handling import IMAGE, LABEL
from keras_siamim.data.sources.indexed import IndexedSource
from keras_siamim.data.sources.splits import SPLITS, choose_split, kind_of
from keras_siamim.files import listed, printable
from keras_siamim.types import PathLike, Tensor

# Extensions of the formats that the decoders read; other files are skipped and counted.
EXTENSIONS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"),
        *(".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".avif", ".jp2", ".j2k", ".jpf", ".jpx"),
    )
)
# Folders that file managers and operating systems fill with thumbnails, deleted files or metadata.
SYSTEM_FOLDERS = frozenset(
    {
        *("@eadir", "#recycle", "@recycle", "#snapshot", "@tmp"),  # network storage
        *("__macosx", "$recycle.bin", "system volume information", "lost+found", "__pycache__"),
    }
)


class Split(NamedTuple):
    """Split of a folder of images.

    Attributes:
        folder: Path. Folder of the split.
        class_names: Tuple of strings. Names of the sub-folders of the other splits.
        notes: Tuple of strings. Sentences about unread images and folders next to the splits.
    """

    folder: Path
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find_images(root: PathLike) -> tuple[list[Path], collections.Counter[str]]:
    """Find the images in a folder and its sub-folders.

    Links are followed. A folder that several paths lead to is read once.

    Args:
        root: Path of the folder.

    Returns:
        The sorted paths of the images, and a `collections.Counter` of the skipped files and folders by kind.

    Raises:
        ValueError: If a folder can't be read.
    """
    skipped: collections.Counter[str] = collections.Counter()
    return sorted(_walk(root, skipped)), skipped


def _walk(root: PathLike, skipped: collections.Counter[str]) -> Iterator[Path]:
    # Folders before links, so that a folder keeps its own path if a link leads to it too.
    folders, links, unreadable = [Path(root)], list[Path](), list[str]()
    # A link to a parent of the root would add everything in that parent.
    seen = {str(folder) for folder in Path(os.path.realpath(root)).parents}
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        real = os.path.realpath(folder)
        if real in seen:
            skipped["links to folders that are read already"] += 1
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    path = folder / entry.name
                    kind = _kind(entry)
                    if kind == "image":
                        yield path
                    elif kind == "folder":
                        (links if entry.is_symlink() else folders).append(path)
                    elif kind == "without permission":
                        unreadable.append(f"{str(path)!r}, Permission denied")
                    else:
                        skipped[kind] += 1
        except OSError as error:
            unreadable.append(f"{str(folder)!r}, {error.strerror}")
        links.sort()
    if unreadable:
        raise ValueError(f"`path` must hold readable folders only. Received: {listed(sorted(unreadable), '; ')}.")


def _kind(entry: os.DirEntry[str]) -> str:
    # "image", "folder", "without permission", or a kind to skip.
    extension = os.path.splitext(entry.name)[1].lower()
    if entry.name.startswith("."):
        return "hidden"
    try:
        if entry.is_dir():
            return f"folders {entry.name}" if entry.name.lower() in SYSTEM_FOLDERS else "folder"
        is_file = entry.is_file()
    except PermissionError:
        return "without permission"
    except OSError:  # a link to itself
        return "dangling links"
    if not is_file:
        return "dangling links" if entry.is_symlink() else "neither files nor folders"
    if extension in EXTENSIONS:
        return "image"
    return f"files {extension}" if extension else "files without an extension"


def holds_images(folder: PathLike) -> bool:
    """Return True if a folder or one of its sub-folders has an image."""
    return next(_walk(folder, collections.Counter()), None) is not None


def sub_folders(root: PathLike) -> list[Path]:
    """Return the sorted paths of the folders in a folder, except hidden folders and `SYSTEM_FOLDERS`."""
    with os.scandir(root) as entries:
        return sorted(Path(root) / entry.name for entry in entries if _kind(entry) == "folder")


def _holds_classes(folder: PathLike) -> bool:
    # Two sub-folders of images are enough evidence.
    return len(list(itertools.islice(filter(holds_images, sub_folders(folder)), 2))) == 2


def split_folder(root: PathLike, split: str) -> Split:
    """Find the folder of a split: a sub-folder or, if there are no splits, the folder itself as split `train`.

    Sub-folders with images are splits if `splits.SPLITS` has their names, in any case. Next to other folders of images,
    a single such name is a class like the others (`bus`, `car`, `train`). Two such names with classes inside are always
    splits.

    Args:
        root: Path of the folder.
        split: String. Name of a split. `val` replaces a missing `test`.

    Returns:
        A `Split`.

    Raises:
        ValueError: If there is no such split, if two folders stand for it, or if a folder may be a split or a class.
    """
    root = Path(root)
    folders = sub_folders(root)
    found = {path.name: path for path in folders if path.name.lower() in SPLITS and holds_images(path)}
    own = {path.name: path for path in folders if path.name.lower() == split.lower() and split.lower() not in SPLITS}
    beside = [path for path in folders if path.name not in found | own and holds_images(path)] if found else []
    if beside:
        kinds = {kind_of(name) for name in found}
        classes_inside = any(_holds_classes(path) for path in found.values())
        if len(kinds) == 1 and not classes_inside:
            found, beside = {}, []
        elif len(kinds) == 1 or not classes_inside:
            raise ValueError(
                f"`data` must hold one folder per split or one folder per class. Received: {str(root)!r}, where "
                f"{listed(found)} may be either, next to {listed(path.name for path in beside)}. Open a sub-folder, "
                f"such as {str(next(iter(found.values())))!r}, or move the others."
            )
    found |= own
    name = choose_split(split, list(found))
    if name is None and (found or kind_of(split) != "train"):
        wanted = [name for name in SPLITS if choose_split(split, [name])] or [split]
        raise ValueError(
            f"`split` must have a sub-folder in {str(root)!r}. Received: {split!r}, without a sub-folder "
            f"{' or '.join(wanted)}; the folder has {f'the splits {listed(found)}' if found else 'no splits'}."
        )
    if name is None:
        return Split(root)
    names = {path.name for other in found.values() if other != found[name] for path in sub_folders(other)}
    with os.scandir(root) as entries:
        images = sum(_kind(entry) == "image" for entry in entries)
    not_read = [f"the folders {listed(path.name for path in beside)}"] if beside else []
    not_read += [f"images outside of all folders ({images:,})"] if images else []
    notes = (f"not read in {root}, next to the splits: {' and '.join(not_read)}",) if not_read else ()
    return Split(found[name], tuple(sorted(names)), tuple(map(printable, notes)))


def folder_source(path: PathLike, class_names: Sequence[str] = ()) -> IndexedSource:
    """Return a source of the images in a folder: flat, nested, or with one sub-folder per class.

    The sub-folders are the classes, in alphabetical order, if there are at least two and all images are in them.
    Otherwise there are no labels. Links are followed. Sizes and the formats of `EXTENSIONS` may be mixed. The source's
    `notes` count the skipped files.

    Args:
        path: Path of the folder.
        class_names: Strings. Names of the classes of other splits of the data set. A single sub-folder with one of
            these names is a class too. Defaults to `()`.

    Returns:
        An `IndexedSource`.

    Raises:
        ValueError: If the path is not a folder, or the folder has no image or an unreadable sub-folder.
    """
    root = Path(path)
    if not root.is_dir():
        raise ValueError(f"`path` must be a folder of images. Received: {str(path)!r}, which is not a folder.")
    found, skipped = find_images(root)
    kinds = ", ".join(f"{kind} ({count:,})" for kind, count in sorted(skipped.items()))
    if not found:
        raise ValueError(
            f"`path` must hold images ({' '.join(sorted(EXTENSIONS))}). Received: {str(path)!r}, without any, even in "
            f"sub-folders{f'; skipped: {kinds}' if kinds else ''}."
        )
    notes = [f"skipped in {path}: {kinds}"] if kinds else []
    # The first folder of each image's path: a tuple of one name, or empty.
    tops = [file.relative_to(root).parts[:-1][:1] for file in found]
    names = sorted({top[0] for top in tops if top})
    beside = [file.name for file, top in zip(found, tops, strict=True) if not top]
    known = {unicodedata.normalize("NFC", name) for name in class_names}
    several = len(names) > 1 or len(known) > 1 and {unicodedata.normalize("NFC", name) for name in names} <= known
    if several and names and beside:
        notes.append(
            f"no labels in {path}: images ({len(beside):,}) are next to the class folders, such as {beside[0]}"
        )
    labeled = several and not beside
    if labeled and (empty := [folder.name for folder in sub_folders(root) if folder.name not in names]):
        notes.append(f"no images in these folders of {path}: {listed(empty)}")
    label_of = {name: label for label, name in enumerate(names)}
    # Bytes, because a file's name may be invalid text.
    paths = tf.constant([bytes(file) for file in found])
    labels = tf.constant([label_of[top[0]] if labeled else 0 for top in tops], tf.int32)

    def read(index: Tensor) -> dict[str, Tensor]:
        example = {IMAGE: tf.io.read_file(paths[index])}
        return {**example, LABEL: labels[index]} if labeled else example

    return IndexedSource(
        printable(str(path)),
        len(found),
        read,
        tuple(map(printable, names)) if labeled else (),
        locate=lambda index: str(found[index]),
        notes=tuple(map(printable, notes)),
    )
