"""Images in folders: which files are images, which sub-folders are splits, and which are classes."""

import collections
import os
from pathlib import Path

import tensorflow as tf

from keras_siamim.data.indexed import IndexedSource
from keras_siamim.data.loading import IMAGE, LABEL

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
    {"@eadir", "__macosx", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
)
# Names of sub-folders that hold a split, in small letters, and the split.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
}


def find_images(root):
    """Find the images below a folder. Links are followed, a link to a folder that contains it is not.

    Args:
        root: Path of the folder.

    Returns:
        The images' paths, sorted, and a `collections.Counter` of what was skipped, by kind.

    Raises:
        ValueError: If a folder can't be read.
    """
    skipped = collections.Counter()
    return sorted(_walk(Path(root), (), skipped)), skipped


def _walk(folder, ancestors, skipped):
    identity = _identity(folder)
    if identity in ancestors:
        skipped["links to a folder that contains them"] += 1
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"`path` must hold readable folders only. Received: {folder}, {error.strerror}.") from error
    for entry in entries:
        path, name = folder / entry.name, entry.name.lower()
        if name.startswith("."):
            skipped["hidden"] += 1
        elif entry.is_dir():
            if name in SYSTEM_FOLDERS:
                skipped[f"folders {entry.name}"] += 1
            else:
                yield from _walk(path, (*ancestors, identity), skipped)
        elif entry.is_symlink() and not path.exists():
            skipped["dangling links"] += 1
        elif path.suffix.lower() not in EXTENSIONS:
            skipped[f"files {path.suffix.lower()}" if path.suffix else "files without an ending"] += 1
        elif entry.is_file():
            yield path


def _identity(folder):
    # By number, not by name: a loop of links never ends by name.
    try:
        status = os.stat(folder)
    except OSError as error:
        raise ValueError(f"`path` must hold readable folders only. Received: {folder}, {error.strerror}.") from error
    return status.st_dev, status.st_ino


def _holds_images(folder):
    return next(_walk(folder, (), collections.Counter()), None) is not None


def split_folder(root, split):
    """Return the folder that holds a split: a sub-folder, or the folder itself, which is its own split `train`.

    Sub-folders are splits if their names are those of `SPLITS`, in any case, and if no other sub-folder holds images or
    there are two splits or more; among other folders of images a lone `train` is a class.

    Args:
        root: Path of the folder.
        split: Name of a split. `val` stands in for a missing `test`.

    Raises:
        ValueError: If there is no such split, or two folders of one name.
    """
    root = Path(root)
    names = {path: path.name.lower() for path in sorted(root.iterdir()) if path.is_dir()}
    splits = {path: SPLITS[name] for path, name in names.items() if name in SPLITS and _holds_images(path)}
    if len(set(splits.values())) == 1:
        others = [path for path, name in names.items() if path not in splits and name[0] != "." and name != split]
        if any(path.name.lower() not in SYSTEM_FOLDERS and _holds_images(path) for path in others):
            splits = {}
    kind = SPLITS.get(split.lower(), split.lower())
    for wanted in ("test", "val") if kind == "test" else (kind,):
        found = [path for path, name in names.items() if (splits.get(path) or name) == wanted]
        if wanted in SPLITS.values():
            found = [path for path in found if path in splits]
        if len(found) > 1:
            raise ValueError(f"`split` must name one folder. Received: {split!r}, for {' and '.join(map(str, found))}.")
        if found:
            return found[0]
    if splits or split != "train":
        kinds = ("test", "val") if kind == "test" else (kind,)
        wanted = [name for name in SPLITS if SPLITS[name] in kinds] or [split]
        received = f"the splits {', '.join(path.name for path in splits)}" if splits else "no splits"
        raise ValueError(
            f"split {split!r} needs a sub-folder {' or '.join(wanted)} in {str(root)!r}. Received: a folder with "
            f"{received}."
        )
    return root


def folder_source(path):
    """Images in a folder: flat, nested, or one sub-folder for each class.

    If every image lies in some sub-folder and there are at least two of them, the sub-folders are the classes, in
    alphabetical order; otherwise there are no labels. Links are followed. Images of all sizes and of the formats of
    `EXTENSIONS` may be mixed; `notes` of the source count what was skipped.

    Args:
        path: Path of the folder.

    Returns:
        An `IndexedSource`.

    Raises:
        ValueError: If there is no such folder, no image in it, or a folder that can't be read.
    """
    root = Path(path)
    if not root.is_dir():
        raise ValueError(f"`path` must be a folder of images. Received: {str(path)!r}, which is not a folder.")
    found, skipped = find_images(root)
    listed = ", ".join(f"{count:,} {kind}" for kind, count in sorted(skipped.items()))
    if not found:
        raise ValueError(
            f"`path` must hold images ({' '.join(sorted(EXTENSIONS))}). Received: {str(path)!r}, where none is, nor "
            f"further down{f'; skipped: {listed}' if listed else ''}."
        )
    notes = (f"skipped in {path}: {listed}",) if listed else ()
    tops = [file.relative_to(root).parts[:-1][:1] for file in found]
    class_names = tuple(sorted({top[0] for top in tops if top}))
    beside = [file.name for file, top in zip(found, tops, strict=True) if not top]
    if len(class_names) > 1 and beside:
        notes += (f"no labels in {path}: {len(beside):,} images lie beside the class folders, {beside[0]} for one",)
    labeled = len(class_names) > 1 and not beside
    numbers = {name: number for number, name in enumerate(class_names)}
    # Bytes, because a file's name need not be valid text.
    paths = tf.constant([bytes(file) for file in found])
    labels = tf.constant([numbers[top[0]] if labeled else 0 for top in tops], tf.int32)

    def read(index):
        example = {IMAGE: tf.io.read_file(paths[index])}
        return {**example, LABEL: labels[index]} if labeled else example

    return IndexedSource(
        str(path),
        len(found),
        read,
        class_names if labeled else (),
        locate=lambda index: str(found[index]),
        notes=notes,
    )
