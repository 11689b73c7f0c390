import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_siamim.data.sources.box_selection import with_objects
from keras_siamim.data.sources.boxes import BoxSource, annotations_of, open_boxes
from keras_siamim.data.sources.coco import ground_truth
from keras_siamim.data.sources.records import RecordSource

pytestmark = pytest.mark.one_backend

F = tfds.features
IMAGE = F.Image(shape=(None, None, 3), encoding_format="png")
SIZES = [(8, 16), (10, 4), (6, 6)]
OBJECT = {"bbox": F.BBoxFeature(), "label": F.ClassLabel(names=["ant", "bee"]), "is_crowd": np.bool_}

with tfds.core.registered.skip_registration():

    class Boxed(tfds.core.GeneratorBasedBuilder):
        """Images with boxes."""

        VERSION = tfds.core.Version("1.0.0")
        features: dict = {}
        examples: tuple = ()

        def _info(self):
            return self.dataset_info_from_configs(
                features=F.FeaturesDict({"image": IMAGE, **self.features}), disable_shuffling=True
            )

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for k, (size, example) in enumerate(zip(SIZES, self.examples, strict=True)):
                yield k, {"image": np.full((*size, 3), k, "uint8"), **example}


def prepare(folder, features, examples):
    with tfds.core.registered.skip_registration():

        class Prepared(Boxed):
            """The same with some features."""

    Prepared.features, Prepared.examples = features, examples
    Prepared(data_dir=folder).download_and_prepare()
    return folder / "prepared"


def box(top, left, bottom, right, label="ant", crowd=False):
    return {"bbox": F.BBox(top, left, bottom, right), "label": label, "is_crowd": crowd}


def test_objects_of_tfds_become_boxes_in_pixels(tmp_path):
    objects = [
        [box(0.25, 0.5, 0.5, 1.0), box(0.5, 0.5, 0.5, 0.7), box(0.0, 0.0, 1.0, 1.0, "bee", crowd=True)],
        [],
        [box(0.5, 0.0, 1.0, 0.5, "bee")],
    ]
    path = prepare(tmp_path, {"objects": F.Sequence(OBJECT)}, [{"objects": found} for found in objects])

    source = open_boxes(path)

    assert (source.size, source.class_names) == (3, ("ant", "bee"))
    found = source.annotations
    assert found.boxes.tolist() == [[8, 2, 16, 4], [0, 0, 16, 8], [0, 3, 3, 6]]  # x1, y1, x2, y2
    assert found.labels.tolist() == [0, 1, 1]
    assert found.crowd.tolist() == [False, True, False]
    assert found.areas.tolist() == [16, 128, 9]
    assert found.image_index.tolist() == [0, 0, 2]
    assert found.image_sizes.tolist() == [list(size) for size in SIZES]
    assert [len(boxes) for boxes in found.per_image()] == [2, 0, 1]
    assert source.notes == ("1 of 4 boxes were left out, since they have no area inside their images",)
    images = [example["image"] for example in source.images.examples(0, 0, False).as_numpy_iterator()]
    assert len(images) == 3
    with pytest.raises(ValueError, match="`annotations` must have at most one box per image.* up to 2 boxes"):
        found.single()
    truth = ground_truth(source)
    assert truth["images"][1] == {"id": 1, "height": 10, "width": 4}
    assert truth["categories"] == [{"id": 0, "name": "ant"}, {"id": 1, "name": "bee"}]
    expected = {"id": 2, "image_id": 0, "category_id": 1, "bbox": [0, 0, 16, 8], "area": 128, "iscrowd": 1}
    assert truth["annotations"][1] == expected
    selected = with_objects(source)
    assert selected.image_ids == (0, 2)
    assert tf.io.decode_png(selected.images.load({"index": 1})["image"])[0, 0, 0] == 2
    with pytest.raises(ValueError, match="`data` must be a folder with LVIS"):
        open_boxes(path, lvis=True)
    with pytest.raises(ValueError, match="`source` must have segmentations"):
        with_objects(source, masks=True)


def test_one_box_per_image_has_the_label_of_the_image(tmp_path):
    features = {"bbox": F.BBoxFeature(bbox_format="REL_XYXY"), "label": F.ClassLabel(names=["ant", "bee"])}
    # TFDS stores the four numbers in the order in which it gets them.
    boxes = [np.array(values) for values in ([0.5, 0.25, 1.0, 0.5], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0])]
    examples = [{"bbox": found, "label": k % 2} for k, found in enumerate(boxes)]

    source = open_boxes(f"tfds_dir:{prepare(tmp_path, features, examples)}")

    assert source.annotations.boxes.tolist() == [[8, 2, 16, 4], [0, 0, 6, 6]]
    assert source.annotations.labels.tolist() == [0, 0]
    positions, relative = source.annotations.single()
    assert positions.tolist() == [0, 2]
    assert relative.tolist() == [[0.5, 0.25, 1, 0.5], [0, 0, 1, 1]]


def test_data_sets_without_boxes_are_refused(tmp_path):
    path = prepare(tmp_path, {"label": F.ClassLabel(num_classes=2)}, [{"label": 0}] * 3)
    with pytest.raises(ValueError, match="must have boxes as feature 'bbox' or 'objects/bbox'.*image, label"):
        open_boxes(path)
    with pytest.raises(ValueError, match=r"`split` must be one of \['train'\]"):
        open_boxes(path, "test")


def test_boxes_are_clipped_sorted_and_counted():
    boxes = np.array([[1, 1, 2, 2], [-5, 0, 4, 9], [9, 9, 12, 12], [0, 0, 4.001, 8]])

    found, notes = annotations_of(
        boxes, [0, 1, 2, 3], [1, 0, 0, 0], [[8, 4], [8, 4]], segmentations="abcd", names="abcd"
    )

    assert found.boxes.tolist() == [[0, 0, 4, 8], [0, 0, 4, 8], [1, 1, 2, 2]]
    assert found.labels.tolist() == [1, 3, 0]
    assert found.segmentations == ("b", "d", "a")
    # The third box is outside, and the last one exceeds its image by rounding only.
    assert notes == (
        "1 of 4 boxes were clipped to their images: b",
        "1 of 4 boxes were left out, since they have no area inside their images: c",
    )


def test_positions_and_indices_of_images_in_several_files_belong_together():
    images = RecordSource("photos", ("a.tfrecord", "b.tfrecord", "c.tfrecord"), (2, 1, 3), parse=lambda record: record)
    found = annotations_of(np.zeros((0, 4)), [], [], [[1, 1]] * 6)[0]
    source = BoxSource(images, found, (), (), ())
    indices = source.indices(np.arange(6))
    assert [images.locate(int(index)) for index in indices][1:4] == [
        "a.tfrecord, record 1",
        "b.tfrecord, record 0",
        "c.tfrecord, record 0",
    ]
    assert source.positions(tf.constant(indices)).numpy().tolist() == list(range(6))


def test_scaled_boxes_follow_their_images_and_padding_marks_the_rest():
    boxes = np.array([[1, 2, 3, 4], [0, 0, 4, 8], [0, 0, 10, 5]])
    found = annotations_of(boxes, [2, 0, 1], [0, 0, 2], [[8, 4], [3, 3], [5, 10]])[0].scaled((16, 20))

    padded, labels = found.padded()

    assert padded.tolist() == [
        [[5, 4, 15, 8], [0, 0, 20, 16]],
        [[0, 0, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 20, 16], [0, 0, 0, 0]],
    ]
    assert labels.tolist() == [[2, 0], [-1, -1], [1, -1]]
    assert found.areas.tolist() == [40, 320, 320]
    assert found.image_sizes.tolist() == [[16, 20]] * 3
