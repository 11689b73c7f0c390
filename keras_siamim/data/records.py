"""Sources in files of records, TFRecords and what TFDS prepared, read from front to back."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_siamim.data import draws, tfrecord
from keras_siamim.data.loading import IMAGE, INDEX, LABEL, Examples

RECORD = "record"
# Records of one file lie this far from those of the next in the numbering of images.
FILE_STRIDE = 1 << 40
# Workers take whole files of their own as long as that keeps at least this share of the images of an epoch.
BALANCED = 0.99


@dataclass(frozen=True)
class RecordSource(Examples):
    """Images in files of records (TFRecord), read from front to back.

    Every file has as many places as it should have records. A place whose record TensorFlow's reader did not reach,
    as it leaves a file at the first damage, is read by its number instead (`keras_siamim.data.tfrecord`).

    Args:
        name: for messages.
        files: paths.
        lengths: number of records in each file.
        parse: function of a string tensor, one record or `(images,)`, that gives a dict as `IndexedSource.read` does.
        class_names: names of the classes, empty without labels.
        image_shape: `(height, width)` if all images have it, else None.
        notes: what a user should know of how the images were found, one line each.
    """

    name: str
    files: tuple[str, ...]
    lengths: tuple[int, ...]
    parse: Callable
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()

    @property
    def size(self):
        """Number of images in all files."""
        return sum(self.lengths)

    def order(self, seed, epoch, shuffle, buffer=10_000, workers=1, worker=0):
        """Read the records of an epoch, not yet parsed.

        Args:
            seed: int.
            epoch: int64 scalar, may be a tensor.
            shuffle: whether to permute the files, read 16 of them in turns, and shuffle what comes out.
            buffer: records among which the next one is chosen; the wider, the closer to a true permutation.
            workers: how many share the epoch. Each reads only files of its own where the files can be dealt out so
                that at most one image in a hundred is left over; otherwise it reads all and takes every
                `workers`-th record.
            worker: this one's number, from 0.

        Returns:
            A `tf.data.Dataset` of what `load` takes. `"index"`, an int64 scalar, names the record whatever the order.
        """
        hands = self._hands(workers)
        numbers = hands[worker] if hands else list(range(len(self.files)))
        found = tf.data.Dataset.from_tensors(tf.cast(epoch, tf.int64)).flat_map(
            lambda epoch: self._records(numbers, seed, epoch, shuffle, buffer)
        )
        return found if hands else found.shard(workers, worker)

    def _records(self, numbers, seed, epoch, shuffle, buffer):
        # Traced into a graph of its own, whose seed is set here: the program's global seed would mix into `shuffle`.
        tf.random.set_seed(1)
        count = len(numbers)
        chosen = tf.constant(numbers, tf.int64)
        if shuffle:
            permuted = tf.numpy_function(
                lambda epoch: draws.permutation(seed, draws.FILES, epoch, count), [epoch], tf.int64
            )
            chosen = tf.gather(chosen, tf.ensure_shape(permuted, (count,)))
        files = tf.data.Dataset.from_tensor_slices(chosen)
        found = files.interleave(
            self._places, cycle_length=min(16, count) if shuffle else 1, num_parallel_calls=tf.data.AUTOTUNE
        )
        if shuffle:
            key = draws.tf_stream_keys(seed, draws.ORDER, epoch, 0)
            found = found.shuffle(buffer, seed=tf.bitcast(key, tf.int64), reshuffle_each_iteration=False)
        return found

    def _places(self, number):
        # A file that can't be opened must not be asked: the reader would try again for ever.
        readable = tf.numpy_function(lambda number: np.int64(_readable(self.files[number])), [number], tf.int64)
        paths = tf.constant(self.files)[number : number + tf.ensure_shape(readable, ())]
        read = tf.data.TFRecordDataset(paths, buffer_size=8 << 20).ignore_errors()
        places = read.concatenate(tf.data.Dataset.from_tensors("").repeat())
        first = number * FILE_STRIDE
        # Not `counter`, which takes ten times as long as reading a small record.
        index = tf.data.Dataset.range(first, first + tf.constant(self.lengths, tf.int64)[number])
        return tf.data.Dataset.zip({INDEX: index, RECORD: places})

    def _hands(self, workers):
        # Files for each worker, the largest first to whom has least; None if that leaves too many images over.
        hands, totals = [[] for _ in range(workers)], [0] * workers
        for number in sorted(range(len(self.files)), key=lambda number: -self.lengths[number]):
            poorest = totals.index(min(totals))
            hands[poorest].append(number)
            totals[poorest] += self.lengths[number]
        return hands if min(totals) * workers >= BALANCED * self.size else None

    def share(self, workers):
        """How many images of an epoch every one of so many workers is sure to have."""
        hands = self._hands(workers)
        if not hands:
            return self.size // workers
        return min(sum(self.lengths[number] for number in hand) for hand in hands)

    def entry(self, index):
        """What `load` takes to read the image of that number, wherever it lies."""
        return {INDEX: index, RECORD: tf.fill(tf.shape(index), "")}

    def sample(self, count):
        """The first entries, at most so many."""
        return list(self.order(0, 0, shuffle=False).take(count))

    def load(self, entry):
        """Read an image: the dict of `parse`."""

        def by_number():
            return tf.ensure_shape(tf.numpy_function(self._read, [entry[INDEX]], tf.string), ())

        return self.parse(tf.cond(tf.strings.length(entry[RECORD]) > 0, lambda: entry[RECORD], by_number))

    def load_all(self, entries):
        """`load` of many entries, a dict of tensors with a common first axis; fails if a record was not read."""
        return self.parse(entries[RECORD])

    def _read(self, index):
        return tfrecord.read_record(self.files[index // FILE_STRIDE], index % FILE_STRIDE)

    def locate(self, index):
        """Where an image lies, for messages."""
        return f"{self.files[index // FILE_STRIDE]}, record {index % FILE_STRIDE}"

    def following(self, index):
        """Number of the image after this one, in the next file after a file's last; the first after the last."""
        if index % FILE_STRIDE + 1 < self.lengths[index // FILE_STRIDE]:
            return index + 1
        filled = [number for number, length in enumerate(self.lengths) if length]
        return FILE_STRIDE * next((number for number in filled if number > index // FILE_STRIDE), filled[0])


def _readable(path):
    try:
        with tfrecord.open_bytes(path) as file:
            file.read(1)
    except (OSError, tf.errors.OpError):
        return False
    return True


def files_of_split(files, split):
    """Return those of some files of records that hold a split, told by a split's name in the files' names.

    Args:
        files: Paths.
        split: Name of a split; `val` stands in for `test`. Files of which none names a split are the split `train`.

    Raises:
        ValueError: If none of the files holds the split.
    """
    named = {path: _split_named(path) for path in files}
    if not any(named.values()) and split == "train":
        return list(files)
    for kind in {"test": ("test", "val")}.get(split, (split,)):
        if found := [path for path, name in named.items() if name == kind]:
            return found
    raise ValueError(
        f"split {split!r} needs files with its name, as `{split}-00000.tfrecord`. Received: {files[0]}"
        f"{f' and {len(files) - 1} more' if len(files) > 1 else ''}."
    )


def _split_named(path):
    words = re.split(r"[^a-z]+", str(path).replace("\\", "/").rsplit("/", 1)[-1].lower())
    kinds = {"training": "train", "testing": "test", "valid": "val", "validation": "val"}
    found = [kinds.get(word, word) for word in words if kinds.get(word, word) in ("train", "test", "val")]
    return found[0] if found else None


def record_source(files, image_key="image/encoded", label_key=None, class_names=()):
    """TFRecord files of `tf.train.Example` with encoded images.

    The records are counted by their lengths, without reading them. What lies behind a damaged length counts as so many
    records as there would be of the usual length.

    Args:
        files: paths, or one pattern such as `"data/train-*.tfrecord"`.
        image_key: feature that holds an image's bytes.
        label_key: feature that holds the class number, or None.
        class_names: names of the classes.

    Returns:
        A `RecordSource`.
    """
    paths = tuple(sorted(tf.io.gfile.glob(files) if isinstance(files, str) else [str(file) for file in files]))
    missing = [path for path in paths if not tf.io.gfile.exists(path)]
    if not paths or missing:
        raise ValueError(f"files must be existing TFRecords; received {files!r}, missing: {missing or 'all'}.")
    if packed := [path for path in paths if tfrecord.compression(path)]:
        raise ValueError(
            f"`files` must hold TFRecords without compression. Received: {packed[0]}, compressed by "
            f"{tfrecord.compression(packed[0])}. Write them with compression_type=''."
        )
    parse = _parser(image_key, label_key)
    return RecordSource(str(files), paths, count_records(paths, files), parse, tuple(class_names))


def _parser(image_key, label_key):
    # Function of one or many serialised `tf.train.Example`.
    features = {image_key: tf.io.FixedLenFeature([], tf.string)}
    if label_key:
        features[label_key] = tf.io.FixedLenFeature([], tf.int64)

    def parse(records):
        parsed = tf.io.parse_example(records, features)
        examples = {IMAGE: parsed[image_key]}
        return {**examples, LABEL: tf.cast(parsed[label_key], tf.int32)} if label_key else examples

    return parse


def count_records(paths, given):
    """Count the records of files, lost ones estimated.

    Args:
        paths: of the files.
        given: what the user typed, for messages.

    Returns:
        A tuple of ints, one for each file.

    Raises:
        ValueError: if there is not one whole record.
    """
    scans = [tfrecord.scan(path) for path in paths]
    found = sum(len(offsets) for offsets, _, _ in scans)
    if not found:
        raise ValueError(f"files must hold TFRecords; received {given!r}, where no record can be found.")
    usual = sum(end for _, end, _ in scans) / found
    return tuple(len(offsets) + (max(1, round(lost / usual)) if lost else 0) for offsets, _, lost in scans)


def tfds_source(builder, split="train"):
    """Read a data set that TFDS has prepared as TFRecords.

    Args:
        builder: a `tfds.core.DatasetBuilder`.
        split: name of a split.

    Returns:
        A `RecordSource`, with labels if the set has a feature `label`.
    """
    info = builder.info
    if split not in info.splits:
        raise ValueError(f"split must be one of {sorted(info.splits)}; received {split!r}.")
    if "image" not in info.features:
        raise ValueError(f"{info.full_name} has no feature 'image'; it has {sorted(info.features)}.")
    if info.file_format is not None and info.file_format.value != "tfrecord":
        raise ValueError(
            f"The data set must be prepared as TFRecords. Received: {info.full_name}, prepared as "
            f"{info.file_format.value}."
        )
    import tensorflow_datasets as tfds

    feature = info.features["image"]
    # Floats are kept as bit patterns in place of colors, tensors as they are.
    if not isinstance(feature, tfds.features.Image) or feature.np_dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"The feature 'image' must hold encoded images of 8 or 16 bits. Received: {info.full_name} with {feature}."
        )
    label = dict(info.features.items()).get("label")
    names = getattr(label, "names", None)
    labeled = label is not None and label.shape == () and np.issubdtype(label.np_dtype, np.integer)
    notes = ()
    if label is not None and not labeled:
        notes = (f"no labels in {info.full_name}: they are {label}, not whole numbers",)
    height, width = info.features["image"].shape[:2]
    return RecordSource(
        f"{info.full_name}, {split}",
        tuple(str(path) for path in info.splits[split].filepaths),
        tuple(info.splits[split].shard_lengths),
        # TFDS keeps features of one value by their names, and images encoded.
        _parser("image", "label" if labeled else None),
        tuple(names) if labeled and names else (),
        (height, width) if height and width else None,
        notes,
    )
