"""Sources in files of records, TFRecords and what TFDS prepared, read from front to back."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_siamim.data import random
from keras_siamim.data.error_handling import IMAGE, INDEX, LABEL, Examples
from keras_siamim.data.images import decoding
from keras_siamim.data.python_calls import numpy_function
from keras_siamim.data.sources import tfrecord
from keras_siamim.data.sources.splits import SPLITS, choose_split, kind_of
from keras_siamim.files import printable

RECORD = "record"
IMAGE_KEY = "image/encoded"
# Labels without names are read to find them where a split has at most so many bytes.
READ_FOR_NAMES = 1 << 30
# Records of one file lie this far from those of the next in the numbering of images.
FILE_STRIDE = 1 << 40
# Workers take whole files of their own as long as that keeps at least this share of the images of an epoch.
BALANCED = 0.99


@dataclass(frozen=True)
class RecordSource(Examples):
    """Images in files of records (TFRecord), read from front to back.

    Every file has as many places as it should have records. A place whose record TensorFlow's reader did not reach,
    as it leaves a file at the first damage, is read by its number instead (`keras_siamim.data.sources.tfrecord`).

    Args:
        name: for messages.
        files: paths.
        lengths: number of records in each file.
        parse: function of a string tensor, one record or `(images,)`, that gives a dict as `IndexedSource.read` does.
        class_names: names of the classes, empty without labels.
        image_shape: `(height, width)` if all images have it, else None.
        notes: what a user should know of how the images were found, one line each.
        shuffled: whether the records lie in random order, so that any files are a random sample.
    """

    name: str
    files: tuple[str, ...]
    lengths: tuple[int, ...]
    parse: Callable
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    shuffled: bool = False

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

    def draw(self, size, seed):
        """Draw the numbers of random images: `(size,)` int64.

        Of shuffled records, whole files, so that no others are read; else records of all files.
        """
        if self.shuffled:
            places = []
            for file in random.permutation(seed, random.FILES, 0, len(self.files)):
                places.append(file * FILE_STRIDE + np.arange(min(self.lengths[file], size - sum(map(len, places)))))
            return np.concatenate(places)
        places = random.permutation(seed, random.ORDER, 0, self.size)[:size]
        ends = np.cumsum(self.lengths)
        files = np.searchsorted(ends, places, side="right")
        return files * FILE_STRIDE + places - (ends - np.array(self.lengths))[files]

    def order_of(self, numbers, seed, epoch, shuffle, buffer=10_000):
        """Read some records of an epoch alone, as `order` does all; `numbers` as `draw` gives them."""
        wanted = np.sort(numbers)
        files = np.unique(wanted // FILE_STRIDE).tolist()
        return tf.data.Dataset.from_tensors(tf.cast(epoch, tf.int64)).flat_map(
            lambda epoch: self._records(files, seed, epoch, shuffle, buffer, wanted)
        )

    def _records(self, numbers, seed, epoch, shuffle, buffer, wanted=None):
        # Traced into a graph of its own, whose seed is set here: the program's global seed would mix into `shuffle`.
        tf.random.set_seed(1)
        count = len(numbers)
        chosen = tf.constant(numbers, tf.int64)
        if shuffle:
            permuted = numpy_function(
                lambda epoch: random.permutation(seed, random.FILES, epoch, count),
                [epoch],
                tf.int64,
            )
            chosen = tf.gather(chosen, tf.ensure_shape(permuted, (count,)))
        files = tf.data.Dataset.from_tensor_slices(chosen)
        found = files.interleave(
            self._places, cycle_length=min(16, count) if shuffle else 1, num_parallel_calls=tf.data.AUTOTUNE
        )
        if wanted is not None:
            sought = tf.constant(wanted, tf.int64)

            def is_wanted(entry):
                place = tf.searchsorted(sought, entry[INDEX][None])[0]
                return sought[tf.minimum(place, len(wanted) - 1)] == entry[INDEX]

            found = found.filter(is_wanted)
        if shuffle:
            key = random.tf_stream_keys(seed, random.ORDER, epoch, 0)
            found = found.shuffle(buffer, seed=tf.bitcast(key, tf.int64), reshuffle_each_iteration=False)
        return found

    def _places(self, number):
        # A file that can't be opened must not be asked: the reader would try again for ever.
        readable = numpy_function(lambda number: np.int64(_readable(self.files[number])), [number], tf.int64)
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
            return tf.ensure_shape(numpy_function(self._read, [entry[INDEX]], tf.string), ())

        return self.parse(tf.cond(tf.strings.length(entry[RECORD]) > 0, lambda: entry[RECORD], by_number))

    def load_all(self, entries):
        """`load` of many entries, a dict of tensors with a common first axis; fails if a record was not read."""
        return self.parse(entries[RECORD])

    def _read(self, index):
        return tfrecord.read_record(self.files[index // FILE_STRIDE], index % FILE_STRIDE)

    def locate(self, index):
        """Where an image lies, for messages."""
        return f"{self.files[index // FILE_STRIDE]}, record {index % FILE_STRIDE}"

    def next_index(self, index):
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

    Where a file's name has none, the folder that it lies in may be called like a split.

    Args:
        files: Paths.
        split: Name of a split; `val` stands in for `test`. Files of which none names a split are the split `train`.

    Raises:
        ValueError: If none of the files holds the split, or if some name a split and others don't.
    """
    named = {str(path): _split_named(str(path)) for path in files}
    if not any(named.values()):
        named = dict.fromkeys(named, "train")
    if unnamed := [path for path, name in named.items() if name is None]:
        raise ValueError(
            f"Files of records must all have the name of a split, or none. Received: {unnamed[0]!r} among "
            f"{len(named):,} files, of which others have one."
        )
    kind = choose_split(split, sorted(set(named.values())))
    if kind is None:
        raise ValueError(
            f"split {split!r} needs files with its name, as `{split}-00000.tfrecord`. Received: {files[0]}"
            f"{f' and {len(files) - 1} more' if len(files) > 1 else ''}."
        )
    return [path for path, name in named.items() if name == kind]


def _split_named(path):
    folder, _, name = path.replace("\\", "/").rpartition("/")
    # The last one: a data set's own name, which may hold such a word, stands before the split's.
    found = [kind_of(word) for word in re.split(r"[^a-z]+", name.lower()) if word in SPLITS]
    folder = folder.rpartition("/")[2].lower()
    return found[-1] if found else SPLITS.get(folder)


def record_source(files, image_key=None, label_key=None, class_names=()):
    """TFRecord files of `tf.train.Example` with encoded images.

    The records are counted by their lengths, without reading them. What lies behind a damaged length counts as so many
    records as there would be of the usual length.

    Args:
        files: paths, or one pattern such as `"data/train-*.tfrecord"`.
        image_key: feature that holds an image's bytes; `"image/encoded"` if left out, or the only one that does.
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
    lengths = count_records(paths, files)
    parse = _parser(_image_key(paths[np.argmax(lengths)], image_key), label_key)
    return RecordSource(str(files), paths, lengths, parse, tuple(class_names))


def _image_key(path, wanted):
    # The feature with the images, as far as the first record tells.
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


def _is_image(values):
    return len(values) == 1 and decoding.refusal(values[0]) is None


def _parser(image_key, label_key, dtype=tf.int64, values=None):
    # Function of one or many serialized `tf.train.Example`. A label is its place among the values, -1 for others.
    features = {image_key: tf.io.FixedLenFeature([], tf.string)}
    if label_key:
        features[label_key] = tf.io.FixedLenFeature([], dtype)

    def parse(records):
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
    name = choose_split(split, list(info.splits))
    if name is None:
        raise ValueError(f"split must be one of {sorted(info.splits)}; received {split!r}.")
    if info.file_format is not None and info.file_format.value != "tfrecord":
        raise ValueError(
            f"The data set must be prepared as TFRecords. Received: {info.full_name}, prepared as "
            f"{info.file_format.value}."
        )
    files = tuple(str(path) for path in info.splits[name].filepaths)
    image_key, image = _image_feature(info)
    labels, class_names, notes = _label_feature(info, info.splits[name], files)
    height, width = image.shape[:2]
    return RecordSource(
        f"{info.full_name}, {name}",
        files,
        tuple(info.splits[name].shard_lengths),
        # TFDS keeps features of one value by their names, and images encoded.
        _parser(image_key, *labels),
        class_names,
        (height, width) if height and width else None,
        notes,
        not info.disable_shuffling,
    )


def _image_feature(info):
    # The name of the feature with the images, and the feature.
    import tensorflow_datasets as tfds

    if not isinstance(info.features, tfds.features.FeaturesDict):
        raise ValueError(
            f"The data set must have named features. Received: {info.full_name}, which has {info.features}."
        )
    features = dict(info.features.items())
    found = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    key = "image" if "image" in features or len(found) != 1 else found[0]
    if key not in features:
        raise ValueError(
            f"{info.full_name} must have a feature 'image', or one feature of images. Received: {sorted(features)}, of "
            f"which {found or 'none'} are images."
        )
    feature = features[key]
    # Floats are kept as bit patterns in place of colors, tensors as they are.
    if not isinstance(feature, tfds.features.Image) or feature.np_dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"The feature {key!r} must hold encoded images of 8 or 16 bits. Received: {info.full_name} with {feature}."
        )
    return key, feature


def _label_feature(info, split, files):
    """Find the labels of a split.

    Names of classes are those of the feature; else, in a split that is small enough to be read for it, the different
    values that it has. They make classes if there are two images or more for each.

    Returns:
        The arguments of `_parser` about labels, the classes' names, and notes.
    """
    feature = dict(info.features.items()).get("label")
    if feature is None:
        return (None,), (), ()
    if getattr(feature, "names", None) and feature.shape == ():
        return ("label",), tuple(feature.names), ()
    whole = np.issubdtype(feature.np_dtype, np.integer) or feature.np_dtype == np.bool_
    if feature.shape != () or not (whole or feature.tf_dtype == tf.string):
        return (None,), (), (f"no labels in {info.full_name}: they are {feature}, not one class for each image",)
    dtype = tf.int64 if whole else tf.string
    if split.num_bytes <= READ_FOR_NAMES:
        values = _values_of(files, "label", dtype)
        if 0 < len(values) <= split.num_examples / 2:
            names = values.astype(str) if whole else map(printable, map(os.fsdecode, values))
            return ("label", dtype, values), tuple(names), ()
    elif whole:
        return ("label",), (), ()
    return (None,), (), (f"no labels in {info.full_name}: {feature} has too many values to be classes",)


def _values_of(files, key, dtype):
    # All different values of a feature, sorted, without negative numbers.
    features = {key: tf.io.FixedLenFeature([], dtype)}
    records = tf.data.TFRecordDataset(list(files)).batch(1024)
    batches = records.map(lambda batch: tf.io.parse_example(batch, features)[key]).as_numpy_iterator()
    values = np.unique(np.concatenate([np.zeros(0, dtype.as_numpy_dtype), *batches]))
    return values[values >= 0] if dtype == tf.int64 else values
