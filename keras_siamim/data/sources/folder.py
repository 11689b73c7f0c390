"""Images in folders: which files are images, which sub-folders are splits, and which are classes."""

import collections
import itertools
import os
import unicodedata
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from keras_siamim.data.error_handling import IMAGE, LABEL
from keras_siamim.data.sources.indexed import IndexedSource
from keras_siamim.data.sources.splits import SPLITS, choose_split, kind_of
from keras_siamim.files import listed, printable

# Endings of the formats that the decoders read; all others are skipped and counted.
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
    """A split of a folder of images.

    Attributes:
        folder: Path of its folder.
        class_names: Names of the sub-folders of the other splits.
        notes: Sentences about what lies beside the splits and is not read.
    """

    folder: Path
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find_images(root):
    """Find the images below a folder. Links are followed; a folder that two paths lead to is read once.

    Args:
        root: Path of the folder.

    Returns:
        The images' paths, sorted, and a `collections.Counter` of what was skipped, by kind.

    Raises:
        ValueError: If a folder can't be read.
    """
    skipped = collections.Counter()
    return sorted(_walk(root, skipped)), skipped


def _walk(root, skipped):
    # Folders before links, so that a folder keeps its own path if a link leads to it as well.
    folders, links, unreadable = [Path(root)], [], []
    # A link to a folder that holds the root would read everything beside it.
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


def _kind(entry):
    # "image", "folder", or what is skipped.
    ending = os.path.splitext(entry.name)[1].lower()
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
    if ending in EXTENSIONS:
        return "image"
    return f"files {ending}" if ending else "files without an ending"


def holds_images(folder):
    """Return whether there is an image below a folder."""
    return next(_walk(folder, collections.Counter()), None) is not None


def sub_folders(root):
    """Return the paths of the folders in a folder, sorted, without hidden ones and those of operating systems."""
    with os.scandir(root) as entries:
        return sorted(Path(root) / entry.name for entry in entries if _kind(entry) == "folder")


def _holds_classes(folder):
    # Two sub-folders of images are enough to tell.
    return len(list(itertools.islice(filter(holds_images, sub_folders(folder)), 2))) == 2


def split_folder(root, split):
    """Find the folder that holds a split: a sub-folder, or the folder itself, which is its own split `train`.

    Sub-folders with images are splits if their names are those of `splits.SPLITS`, in any case. Beside other folders of
    images, a single such name is a class like the others (`bus`, `car`, `train`). Two such names, with classes inside,
    are splits whatever lies beside them.

    Args:
        root: Path of the folder.
        split: Name of a split. `val` stands in for a missing `test`.

    Returns:
        A `Split`.

    Raises:
        ValueError: If there is no such split, two folders stand for it, or a folder could be a split as well as a
            class.
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
                f"`data` must hold one folder for each split, or one for each class. Received: {str(root)!r}, where "
                f"{listed(found)} may be either, beside {listed(path.name for path in beside)}. Open a sub-folder, "
                f"such as {str(next(iter(found.values())))!r}, or move the others."
            )
    found |= own
    name = choose_split(split, list(found))
    if name is None and (found or kind_of(split) != "train"):
        wanted = [name for name in SPLITS if choose_split(split, [name])] or [split]
        raise ValueError(
            f"split {split!r} needs a sub-folder {' or '.join(wanted)} in {str(root)!r}. Received: a folder with "
            f"{f'the splits {listed(found)}' if found else 'no splits'}."
        )
    if name is None:
        return Split(root)
    names = {path.name for other in found.values() if other != found[name] for path in sub_folders(other)}
    with os.scandir(root) as entries:
        images = sum(_kind(entry) == "image" for entry in entries)
    not_read = [f"the folders {listed(path.name for path in beside)}"] if beside else []
    not_read += [f"images outside of all folders ({images:,})"] if images else []
    notes = (f"not read in {root}, beside the splits: {' and '.join(not_read)}",) if not_read else ()
    return Split(found[name], tuple(sorted(names)), tuple(map(printable, notes)))


def folder_source(path, class_names=()):
    """Images in a folder: flat, nested, or one sub-folder for each class.

    If every image lies in some sub-folder and there are at least two of them, the sub-folders are the classes, in
    alphabetical order; otherwise there are no labels. Links are followed. Images of all sizes and of the formats of
    `EXTENSIONS` may be mixed; `notes` of the source count what was skipped.

    Args:
        path: Path of the folder.
        class_names: Tuple of strings. Names of classes in other splits of the data set: a single sub-folder with one of
            these names is a class too. Defaults to none.

    Returns:
        An `IndexedSource`.

    Raises:
        ValueError: If there is no such folder, no image in it, or a folder that can't be read.
    """
    root = Path(path)
    if not root.is_dir():
        raise ValueError(f"`path` must be a folder of images. Received: {str(path)!r}, which is not a folder.")
    found, skipped = find_images(root)
    kinds = ", ".join(f"{kind} ({count:,})" for kind, count in sorted(skipped.items()))
    if not found:
        raise ValueError(
            f"`path` must hold images ({' '.join(sorted(EXTENSIONS))}). Received: {str(path)!r}, where none is, nor "
            f"further down{f'; skipped: {kinds}' if kinds else ''}."
        )
    notes = [f"skipped in {path}: {kinds}"] if kinds else []
    tops = [file.relative_to(root).parts[:-1][:1] for file in found]
    names = sorted({top[0] for top in tops if top})
    beside = [file.name for file, top in zip(found, tops, strict=True) if not top]
    known = {unicodedata.normalize("NFC", name) for name in class_names}
    several = len(names) > 1 or len(known) > 1 and {unicodedata.normalize("NFC", name) for name in names} <= known
    if several and names and beside:
        notes.append(f"no labels in {path}: images ({len(beside):,}) lie beside the class folders, such as {beside[0]}")
    labeled = several and not beside
    if labeled and (empty := [folder.name for folder in sub_folders(root) if folder.name not in names]):
        notes.append(f"no images in these folders of {path}: {listed(empty)}")
    numbers = {name: number for number, name in enumerate(names)}
    # Bytes, because a file's name need not be valid text.
    paths = tf.constant([bytes(file) for file in found])
    labels = tf.constant([numbers[top[0]] if labeled else 0 for top in tops], tf.int32)

    def read(index):
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
