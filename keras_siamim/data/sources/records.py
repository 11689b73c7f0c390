"""Sources in files of TFRecords, read from front to back."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_siamim.data import random
from keras_siamim.data.error_handling import IMAGE, INDEX, LABEL, Examples
from keras_siamim.data.images import decoding
from keras_siamim.data.python_calls import numpy_function
from keras_siamim.data.sources import tfrecord
from keras_siamim.data.sources.splits import SPLITS, choose_split, kind_of
from keras_siamim.types import PathLike, Tensor

RECORD = "record"
IMAGE_KEY = "image/encoded"
# An image's index is `file * FILE_STRIDE + record`.
FILE_STRIDE = 1 << 40
# Workers read separate files if that keeps at least this fraction of the images of an epoch.
BALANCED = 0.99


@dataclass(frozen=True)
class RecordSource(Examples):
    """Source in files of records (TFRecord), read from front to back.

    TensorFlow's reader stops at the first damaged record of a file. The records after it are read one by one by
    `keras_siamim.data.sources.tfrecord`.

    Args:
        name: String. Name in messages.
        files: Tuple of strings. Paths.
        lengths: Tuple of integers. Number of records per file.
        parse: Function of a string tensor, one record or `(images,)`. It returns a dict as `IndexedSource.read` does.
        class_names: Tuple of strings. Names of the classes, empty without labels. Defaults to `()`.
        image_shape: `(height, width)` if all images have one size, else None. Defaults to None.
        notes: Tuple of strings, one line each. Remarks for the user on how the images were found. Defaults to `()`.
        shuffled: Bool. True if the records are stored in random order, so that any file is a random sample. Defaults
            to False.

    Example:
    >>> source = RecordSource("photos", ("a.tfrecord", "b.tfrecord"), (20, 30), parse=lambda record: {"image": record})
    >>> source.size, source.locate(source.next_index(19))
    (50, 'b.tfrecord, record 0')
    """

    name: str
    files: tuple[str, ...]
    lengths: tuple[int, ...]
    parse: Callable[[Tensor], dict[str, Tensor]]
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    shuffled: bool = False

    @property
    def size(self) -> int:
        """Number of images in all files."""
        return sum(self.lengths)

    def order(
        self,
        seed: int,
        epoch: int | Tensor,
        shuffle: bool,
        buffer: int = 10_000,
        workers: int = 1,
        worker: int = 0,
    ) -> tf.data.Dataset:
        """Read the records of one epoch, without parsing them.

        Args:
            seed: Integer. Seed of the order.
            epoch: int64 scalar or tensor. Each epoch has another order.
            shuffle: Bool. Permute the files, interleave 16 of them, and shuffle their records.
            buffer: Integer. Number of records in the shuffle buffer; a larger buffer is closer to a full permutation.
                Defaults to 10,000.
            workers: Integer. Number of workers that share the epoch. Each reads separate files if the files can be
                divided so evenly that at most 1% of the images are left over. Otherwise it reads all files and takes
                every `workers`-th record. Defaults to 1.
            worker: Integer in [0, `workers`). Index of this worker. Defaults to 0.

        Returns:
            A `tf.data.Dataset` of entries for `load`. `"index"`, an int64 scalar, identifies the record in any order.
        """
        hands = self._hands(workers)
        numbers = hands[worker] if hands else list(range(len(self.files)))
        found = tf.data.Dataset.from_tensors(tf.cast(epoch, tf.int64)).flat_map(
            lambda epoch: self._records(numbers, seed, epoch, shuffle, buffer)
        )
        return found if hands else found.shard(workers, worker)

    def draw(self, size: int, seed: int) -> np.ndarray:
        """Draw the indices of random images: `(size,)` int64.

        If the records are stored in random order, the images of few files are taken; otherwise those of all files.
        """
        # Complete files, so that the others need not be read.
        if self.shuffled:
            indices: list[np.ndarray] = []
            for file in random.permutation(seed, random.FILES, 0, len(self.files)):
                indices.append(file * FILE_STRIDE + np.arange(min(self.lengths[file], size - sum(map(len, indices)))))
            return np.concatenate(indices)
        positions = random.permutation(seed, random.ORDER, 0, self.size)[:size]
        ends = np.cumsum(self.lengths)
        files = np.searchsorted(ends, positions, side="right")
        return files * FILE_STRIDE + positions - (ends - np.array(self.lengths))[files]

    def order_of(
        self, indices: np.ndarray, seed: int, epoch: int | Tensor, shuffle: bool, buffer: int = 10_000
    ) -> tf.data.Dataset:
        """Read some records of one epoch, as `order` does for all.

        Args:
            indices: `(images,)` int64, from `draw`.
            seed: See `order`.
            epoch: See `order`.
            shuffle: See `order`.
            buffer: See `order`. Defaults to 10,000.

        Returns:
            A `tf.data.Dataset` of entries for `load`.
        """
        wanted = np.sort(indices)
        files = np.unique(wanted // FILE_STRIDE).tolist()
        return tf.data.Dataset.from_tensors(tf.cast(epoch, tf.int64)).flat_map(
            lambda epoch: self._records(files, seed, epoch, shuffle, buffer, wanted)
        )

    def _records(self, file_indices, seed, epoch, shuffle, buffer, wanted=None):
        # The seed of this function's own graph: otherwise `shuffle` would depend on the program's global seed.
        tf.random.set_seed(1)
        count = len(file_indices)
        chosen = tf.constant(file_indices, tf.int64)
        if shuffle:
            permuted = numpy_function(
                lambda epoch: random.permutation(seed, random.FILES, epoch, count),
                [epoch],
                tf.int64,
            )
            chosen = tf.gather(chosen, tf.ensure_shape(permuted, (count,)))
        files = tf.data.Dataset.from_tensor_slices(chosen)
        found = files.interleave(
            self._entries_of_file, cycle_length=min(16, count) if shuffle else 1, num_parallel_calls=tf.data.AUTOTUNE
        )
        if wanted is not None:
            sorted_indices = tf.constant(wanted, tf.int64)

            def is_wanted(entry):
                position = tf.searchsorted(sorted_indices, entry[INDEX][None])[0]
                return sorted_indices[tf.minimum(position, len(wanted) - 1)] == entry[INDEX]

            found = found.filter(is_wanted)
        if shuffle:
            key = random.tf_stream_keys(seed, random.ORDER, epoch, 0)
            found = found.shuffle(buffer, seed=tf.bitcast(key, tf.int64), reshuffle_each_iteration=False)
        return found

    def _entries_of_file(self, number):
        # TensorFlow's reader retries forever on a file that can't be opened, so such a file is left out.
        readable = numpy_function(lambda number: np.int64(_readable(self.files[number])), [number], tf.int64)
        paths = tf.constant(self.files)[number : number + tf.ensure_shape(readable, ())]
        read = tf.data.TFRecordDataset(paths, buffer_size=8 << 20).ignore_errors()
        # Empty strings stand for the records that the reader did not reach; `load` reads those by their index.
        records = read.concatenate(tf.data.Dataset.from_tensors("").repeat())
        first = number * FILE_STRIDE
        # `Dataset.counter` would take ten times longer than reading a small record.
        index = tf.data.Dataset.range(first, first + tf.constant(self.lengths, tf.int64)[number])
        return tf.data.Dataset.zip({INDEX: index, RECORD: records})

    def _hands(self, workers: int) -> list[list[int]] | None:
        # Greedy assignment of files to workers, largest first. None if too many images would be left over.
        assigned: list[list[int]] = [[] for _ in range(workers)]
        totals = [0] * workers
        for file in sorted(range(len(self.files)), key=lambda file: -self.lengths[file]):
            smallest = totals.index(min(totals))
            assigned[smallest].append(file)
            totals[smallest] += self.lengths[file]
        return assigned if min(totals) * workers >= BALANCED * self.size else None

    def share(self, workers: int) -> int:
        """Return the number of images per epoch that each worker has at least."""
        assigned = self._hands(workers)
        if not assigned:
            return self.size // workers
        return min(sum(self.lengths[file] for file in own) for own in assigned)

    def entry(self, index: int | Tensor) -> dict[str, Tensor]:
        """Return the entry with which `load` reads the image of an index."""
        return {INDEX: index, RECORD: tf.fill(tf.shape(index), "")}

    def sample(self, count: int) -> list[dict[str, Tensor]]:
        """Return the first entries, at most `count`."""
        return list(self.order(0, 0, shuffle=False).take(count))

    def load(self, entry: dict[str, Tensor]) -> dict[str, Tensor]:
        """Read an image and return the dict of `parse`."""

        def by_index():
            return tf.ensure_shape(numpy_function(self._read, [entry[INDEX]], tf.string), ())

        return self.parse(tf.cond(tf.strings.length(entry[RECORD]) > 0, lambda: entry[RECORD], by_index))

    def load_all(self, entries: dict[str, Tensor]) -> dict[str, Tensor]:
        """Parse a batch of entries, a dict of tensors with a common first axis.

        Fails if TensorFlow's reader did not reach one of the records.
        """
        return self.parse(entries[RECORD])

    def _read(self, index: int) -> bytes:
        return tfrecord.read_record(self.files[index // FILE_STRIDE], index % FILE_STRIDE)

    def locate(self, index: int) -> str:
        """Return the location of an image, for messages."""
        return f"{self.files[index // FILE_STRIDE]}, record {index % FILE_STRIDE}"

    def next_index(self, index: int) -> int:
        """Return the index of the next image, across files; the first image follows the last."""
        if index % FILE_STRIDE + 1 < self.lengths[index // FILE_STRIDE]:
            return index + 1
        filled = [file for file, length in enumerate(self.lengths) if length]
        return FILE_STRIDE * next((file for file in filled if file > index // FILE_STRIDE), filled[0])


def _readable(path: str) -> bool:
    try:
        with tfrecord.open_bytes(path) as file:
            file.read(1)
    except (OSError, tf.errors.OpError):
        return False
    return True


def files_of_split(files: Sequence[PathLike], split: str) -> list[str]:
    """Return the files of records of a split, by the split's name in their names.

    A file without a split's name is in the split that its folder is named after. If no file names a split, all files
    are in split `train`.

    Args:
        files: Strings or paths.
        split: String. Name of a split; `val` replaces a missing `test`.

    Returns:
        List of strings.

    Raises:
        ValueError: If no file is in the split, or if only some files name a split.

    Example:
    >>> files_of_split(["photos-train-0.tfrecord", "photos-valid-0.tfrecord"], "test")
    ['photos-valid-0.tfrecord']
    """
    named = {str(path): _split_named(str(path)) for path in files}
    if not any(named.values()):
        named = dict.fromkeys(named, "train")
    if unnamed := [path for path, name in named.items() if name is None]:
        raise ValueError(
            f"`files` must all have the name of a split, or none of them. Received: {unnamed[0]!r} without a name "
            f"among {len(named):,} files, some with one."
        )
    kind = choose_split(split, sorted({name for name in named.values() if name}))
    if kind is None:
        raise ValueError(
            f"`split` must be in the names of files, as in `{split}-00000.tfrecord`. Received: {split!r} for {files[0]}"
            f"{f' and {len(files) - 1} more' if len(files) > 1 else ''}."
        )
    return [path for path, name in named.items() if name == kind]


def _split_named(path: str) -> str | None:
    folder, _, name = path.replace("\\", "/").rpartition("/")
    # The last one: the data set's name may contain such a word, and comes before the split's.
    found = [kind_of(word) for word in re.split(r"[^a-z]+", name.lower()) if word in SPLITS]
    folder = folder.rpartition("/")[2].lower()
    return found[-1] if found else SPLITS.get(folder)


def record_source(
    files: str | Iterable[PathLike],
    image_key: str | None = None,
    label_key: str | None = None,
    class_names: Sequence[str] = (),
) -> RecordSource:
    """Return a source of TFRecord files of `tf.train.Example` with encoded images.

    The records are counted by their lengths, without reading their data. The number of records after a damaged length
    is estimated from the mean length.

    Args:
        files: Strings or paths, or one pattern such as `"data/train-*.tfrecord"`.
        image_key: String. Feature of the encoded images. Defaults to `"image/encoded"` or, without it, to the only
            feature with images.
        label_key: String. Feature of the integer labels, or None. Defaults to None.
        class_names: Strings. Names of the classes. Defaults to `()`.

    Returns:
        A `RecordSource`.

    Raises:
        ValueError: If a file is missing, compressed, or has no such features, or if there are no records.
    """
    paths = tuple(sorted(tf.io.gfile.glob(files) if isinstance(files, str) else [str(file) for file in files]))
    missing = [path for path in paths if not tf.io.gfile.exists(path)]
    if not paths or missing:
        raise ValueError(f"`files` must be existing TFRecords. Received: {files!r}, missing: {missing or 'all'}.")
    if packed := [path for path in paths if tfrecord.compression(path)]:
        raise ValueError(
            f"`files` must be TFRecords without compression. Received: {packed[0]}, compressed by "
            f"{tfrecord.compression(packed[0])}. Write them with compression_type=''."
        )
    lengths = count_records(paths, files)
    parse = example_parser(_image_key(paths[np.argmax(lengths)], image_key), label_key)
    return RecordSource(str(files), paths, lengths, parse, tuple(class_names))


def _image_key(path: str, wanted: str | None) -> str:
    # The feature with the images, according to the first record.
    try:
        features = tf.train.Example.FromString(tfrecord.read_record(path, 0)).features.feature
    except (ValueError, DecodeError):
        features = {}
    if not features or (wanted or IMAGE_KEY) in features:
        return wanted or IMAGE_KEY
    found = [key for key, feature in features.items() if _is_image(feature.bytes_list.value)]
    if wanted or len(found) != 1:
        raise ValueError(
            f"`image_key` must be the feature of the records in {path!r} that holds encoded images. Received: "
            f"{wanted!r}; there are {', '.join(sorted(features))}."
        )
    return found[0]


def _is_image(values: Sequence[bytes]) -> bool:
    return len(values) == 1 and decoding.refusal(values[0]) is None


def example_parser(
    image_key: str, label_key: str | None, dtype: tf.DType = tf.int64, values: np.ndarray | None = None
) -> Callable[[Tensor], dict[str, Tensor]]:
    """Return a function that parses serialized examples.

    Args:
        image_key: Name of the feature with the encoded image.
        label_key: Name of the feature with the label. None for no labels.
        dtype: dtype of the label. Defaults to int64.
        values: Sorted values of the label. A label becomes its index among them, -1 for others. Defaults to None: the
            label is the class.

    Returns:
        Function from one or many serialized examples to a dictionary of `"image"` and, if any, `"label"`.
    """
    features = {image_key: tf.io.FixedLenFeature([], tf.string)}
    if label_key:
        features[label_key] = tf.io.FixedLenFeature([], dtype)

    def parse(records: Tensor) -> dict[str, Tensor]:
        parsed = tf.io.parse_example(records, features)
        examples = {IMAGE: parsed[image_key]}
        if not label_key:
            return examples
        label = parsed[label_key]
        if values is not None:
            equal = label[..., None] == tf.constant(values)
            label = tf.where(tf.reduce_any(equal, -1), tf.argmax(equal, -1), -1)
        return {**examples, LABEL: tf.cast(label, tf.int32)}

    return parse


def count_records(paths: Sequence[str], given: Any) -> tuple[int, ...]:
    """Count the records of files, with an estimate for the records after damage.

    Args:
        paths: Strings. Paths of the files.
        given: The user's argument, for messages.

    Returns:
        Tuple of integers, one per file.

    Raises:
        ValueError: If there is no complete record.
    """
    scans = [tfrecord.scan(path) for path in paths]
    found = sum(len(offsets) for offsets, _, _ in scans)
    if not found:
        raise ValueError(f"`files` must be TFRecords. Received: {given!r}, in which no record can be found.")
    mean_length = sum(end for _, end, _ in scans) / found
    return tuple(len(offsets) + (max(1, round(lost / mean_length)) if lost else 0) for offsets, _, lost in scans)
