import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_siamim.data.bad_images import failure
from keras_siamim.data.sources.label_maps import Labeling, decode_labels
from keras_siamim.data.sources.opening_label_maps import open_label_maps, pairs_of

pytestmark = pytest.mark.one_backend

SIZE = (4, 6)


def save_png(path, labels, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(labels))
    if palette:
        image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(path)


@pytest.fixture
def folder(tmp_path, rng):
    for name, labels in {"a": np.full(SIZE, 2), "deeper/b": np.eye(*SIZE) * 255}.items():
        save_png(tmp_path / f"images/{name}.png", rng.integers(0, 256, (*SIZE, 3)).astype("uint8"))
        save_png(tmp_path / f"masks/{name}.png", labels.astype("uint8"), palette=name == "a")
    return tmp_path


def label_maps(source):
    return [example["label_map"].numpy() for example in source.images.examples(0, 0, shuffle=False)]


def test_images_and_masks_are_matched_by_their_names(folder):
    source = open_label_maps(folder)

    first, second = label_maps(source)

    assert source.size == 2
    assert source.class_names == ("0", "1", "2")  # all labels up to the largest one, without 255
    np.testing.assert_array_equal(first, np.full(SIZE, 2))
    np.testing.assert_array_equal(second, (np.eye(*SIZE) * 255).astype("uint8"))


def test_classes_have_the_names_in_the_folder(folder):
    (folder / "classes.txt").write_text("sky\nroad\nroof\n")

    assert open_label_maps(folder).class_names == ("sky", "road", "roof")
    with pytest.raises(ValueError, match=r"`num_classes` must be the number of names in classes.txt, 3. Received: 2"):
        open_label_maps(folder, num_classes=2)


@pytest.mark.parametrize("layout", ["{split}/{kind}", "{kind}/{split}"])
def test_splits_are_folders(tmp_path, layout):
    for split, label in (("training", 0), ("validation", 1)):
        for kind, pixels in (("images", np.zeros((*SIZE, 3))), ("annotations", np.full(SIZE, label))):
            save_png(tmp_path / layout.format(split=split, kind=kind) / "x.png", pixels.astype("uint8"))

    assert label_maps(open_label_maps(tmp_path, "test", num_classes=2))[0].max() == 1
    with pytest.raises(ValueError, match=r"`split` must be one of training, validation"):
        open_label_maps(tmp_path, "extra")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_stored_labels_become_classes(dtype):
    labeling = Labeling(("sky", "road"), first=1, ignored=(0, 9))

    assert labeling.classes_of(np.array([[0, 1, 2, 9]], dtype)).tolist() == [[255, 0, 1, 255]]
    with pytest.raises(ValueError, match=r"has the label 3 at row 1, column 0; the 2 classes are 1 to 2, and 0, 9 is"):
        labeling.classes_of(np.array([[1], [3]], dtype))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"class_names": ("a",)}, "`class_names` must be 2 to 255 names. Received: 1"),
    ({"first": -1}, "`first` must be 0 or more"),
    ({"ignored": (1,)}, r"`ignored` must be labels outside \[0, 2\)"),
])  # fmt: skip
def test_an_invalid_labeling_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Labeling(**{"class_names": ("a", "b"), **arguments})


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_gray_values_of_few_bits_are_labels(tmp_path, bits):
    labels = np.arange(2**bits, dtype="uint8")[None]
    encoded = png_of_few_bits(labels, bits)

    np.testing.assert_array_equal(decode_labels(encoded), labels)


def png_of_few_bits(labels, bits):
    # Neither Pillow nor TensorFlow writes them.
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = np.packbits(np.unpackbits(labels[0][:, None], axis=1)[:, -bits:].ravel()).tobytes()
    header = struct.pack(">IIBBBBB", labels.shape[1], 1, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_mask_of_colors_is_refused():
    with pytest.raises(ValueError, match="must be a grayscale or palette PNG, not one of colors"):
        decode_labels(tf.io.encode_png(np.zeros((2, 2, 3), "uint8")).numpy())
    with pytest.raises(ValueError, match="it is not a PNG"):
        decode_labels(tf.io.encode_jpeg(np.zeros((2, 2, 3), "uint8")).numpy())


@pytest.mark.parametrize(("labels", "reason"), [
    (np.full(SIZE, 7), r"a.png: it has the label 7 at row 0, column 0; the 3 classes are 0 to 2"),
    (np.zeros((4, 5)), r"a.png: it has 4 x 5 pixels, and its image has 4 x 6"),
])  # fmt: skip
def test_a_bad_label_map_is_an_error_that_names_its_file(folder, labels, reason):
    save_png(folder / "masks/a.png", labels.astype("uint8"))
    source = open_label_maps(folder, num_classes=3)

    found = failure(source.images, 0)

    assert str(folder / "masks") in found
    assert re.search(reason, found)


def test_pairs_must_be_complete(folder):
    (folder / "masks/a.png").rename(folder / "masks/c.png")
    with pytest.raises(ValueError, match=r"`masks` must have a mask for each image.*without one for 1: .*images/a.png"):
        open_label_maps(folder)
    (folder / "images/a.png").unlink()
    with pytest.raises(ValueError, match=r"`images` must have an image for each mask.*masks/c.png"):
        pairs_of(folder / "images", folder / "masks")
    save_png(folder / "images/c.png", np.zeros((*SIZE, 3), "uint8"))
    save_png(folder / "images/c.bmp", np.zeros((*SIZE, 3), "uint8"))
    with pytest.raises(ValueError, match=r"`images` must have one file per name. Received: .*c.bmp.*c.png"):
        open_label_maps(folder)


def test_a_folder_without_masks_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`data` must have the folders images and masks or labels"):
        open_label_maps(tmp_path)
    with pytest.raises(ValueError, match="which is no folder"):
        open_label_maps(tmp_path / "nowhere")


def test_label_maps_of_one_class_are_refused(tmp_path):
    for kind, pixels in (("images", np.zeros((*SIZE, 3))), ("masks", np.zeros(SIZE))):
        save_png(tmp_path / kind / "x.png", pixels.astype("uint8"))

    with pytest.raises(ValueError, match="must have label maps of at least two classes"):
        open_label_maps(tmp_path)
