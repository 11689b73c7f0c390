import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_siamim import batch as batch_keys
from keras_siamim.data.bad_images import TooManyBadImages
from keras_siamim.data.images import preprocessing
from keras_siamim.data.label_map_batches import (
    CropRecipe,
    WholeImages,
    crop_example,
    label_map_training_batches,
    squashed_label_maps,
)
from keras_siamim.data.sources.opening_label_maps import open_label_maps

pytestmark = pytest.mark.one_backend

SIZES = [(16, 24), (20, 12), (9, 9), (12, 30), (14, 14)]
COLORS = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250], [250, 250, 10]], "uint8")


def quadrants(height, width):
    """Return a label map whose four quadrants are classes 0 to 3."""
    rows, columns = np.arange(height) >= height // 2, np.arange(width) >= width // 2
    return (2 * rows[:, None] + columns).astype("uint8")


def pixels_of(images):
    return (images * batch_keys.IMAGENET_STD + batch_keys.IMAGENET_MEAN) * 255


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("quadrants")
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    for number, size in enumerate(SIZES):
        labels = quadrants(*size)
        Image.fromarray(COLORS[labels]).save(root / f"images/{number}.png")
        Image.fromarray(labels).save(root / f"masks/{number}.png")
    return open_label_maps(root)


def training(source, **changes):
    recipe = CropRecipe(12, largest_share=1.0, distorted=False)
    return label_map_training_batches(source, **{"recipe": recipe, "batch_size": 2, **changes})


def test_every_crop_shows_its_labels(source):
    for images, labels in training(source).take(20).as_numpy_iterator():
        labeled = labels != 255
        nearest = np.argmin(abs(pixels_of(images)[..., None, :] - COLORS.astype("float32")).sum(-1), axis=-1)
        # Bilinear resizing mixes the colors of up to two rows and columns at the borders of the quadrants.
        assert (nearest == labels)[labeled].mean() > 0.8
        assert labeled.any()
        np.testing.assert_array_equal(images[~labeled], 0)


@pytest.mark.slow
def test_crops_differ_between_epochs_and_repeat_with_the_seed(source):
    first = list(itertools.islice(training(source).as_numpy_iterator(), 4))
    again = list(itertools.islice(training(source).as_numpy_iterator(), 4))
    other = list(itertools.islice(training(source, seed=1).as_numpy_iterator(), 4))
    resumed = next(training(source, start_epoch=1, start_step=1).as_numpy_iterator())

    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one[0], two[0])
    assert not np.array_equal(first[0][0], first[2][0])
    assert not np.array_equal(first[0][0], other[0][0])
    for one, two in zip(resumed, first[3], strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_workers_share_an_epoch(source):
    whole = [images for images, _ in training(source, batch_size=2).take(2).as_numpy_iterator()]
    halves = [
        [images for images, _ in training(source, batch_size=1, workers=2, worker=worker).take(2).as_numpy_iterator()]
        for worker in range(2)
    ]

    for step in range(2):
        np.testing.assert_array_equal(whole[step], np.concatenate([halves[0][step], halves[1][step]]))


def crop(labels, recipe, uniforms):
    image = tf.constant(np.repeat(labels[..., None], 3, axis=-1))
    return [part.numpy() for part in crop_example(image, tf.constant(labels), tf.constant(uniforms), recipe)]


def test_a_crop_of_almost_one_class_is_drawn_again(rng):
    labels = np.zeros((40, 40), "uint8")
    labels[:, 20:] = 1
    uniforms = rng.uniform(size=31).astype("float32")
    uniforms[2:6] = [0.5, 0.0, 0.5, 0.5]  # left border, then the middle

    first = crop(labels, CropRecipe(20, short_side=40, ratios=(1, 1), largest_share=1.0, distorted=False), uniforms)
    second = crop(labels, CropRecipe(20, short_side=40, ratios=(1, 1), distorted=False), uniforms)

    assert set(np.unique(first[1])) == {0}
    assert set(np.unique(second[1])) == {0, 1}


def test_the_last_of_ten_crops_stands():
    labels = np.zeros((40, 40), "uint8")
    labels[:4, :4] = 1
    uniforms = np.full(31, 0.9, "float32")
    uniforms[20:22] = 0.0

    images, found = crop(labels, CropRecipe(20, short_side=40, ratios=(1, 1), distorted=False), uniforms)

    np.testing.assert_array_equal(found, labels[:20, :20])
    np.testing.assert_allclose(pixels_of(images)[..., 0], labels[:20, :20], atol=1e-3)


def test_images_and_label_maps_are_squashed(source):
    batches = list(squashed_label_maps(source, (8, 6), batch_size=2).as_numpy_iterator())

    assert [len(batch["labels"]) for batch in batches] == [2, 2, 1]
    labels = np.concatenate([batch["labels"] for batch in batches])
    images = np.concatenate([batch["images"] for batch in batches])
    np.testing.assert_array_equal(labels[0], quadrants(8, 6))
    expected = preprocessing.resize(tf.constant(COLORS[quadrants(*SIZES[1])][None]), (8, 6))
    np.testing.assert_array_equal(images[1], preprocessing.normalize(expected)[0])


def test_whole_images_keep_their_aspect_and_their_label_maps(source):
    examples = list(WholeImages(source, 6))

    assert [image.shape[:2] for image, _ in examples] == [(6, 9), (10, 6), (6, 6), (6, 15), (6, 6)]
    for (_, labels), size in zip(examples, SIZES, strict=True):
        np.testing.assert_array_equal(labels, quadrants(*size))
    assert len(list(WholeImages(source, 6, limit=2))) == len(WholeImages(source, 6, limit=2)) == 2


def test_a_bad_label_map_ends_evaluation_and_training(source, tmp_path):
    for kind, labels in (("images", np.zeros((4, 4, 3))), ("masks", np.full((4, 4), 9))):
        (tmp_path / kind).mkdir()
        for number in range(2):
            Image.fromarray((labels * number).astype("uint8")).save(tmp_path / f"{kind}/{number}.png")
    bad = open_label_maps(tmp_path, num_classes=2)

    with pytest.raises(TooManyBadImages, match=r"1.png: label map .*masks/1.png: it has the label 9"):
        list(WholeImages(bad, 4))
    with pytest.raises(tf.errors.InvalidArgumentError, match="it has the label 9"):
        next(iter(training(bad, batch_size=2)))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"crop_size": 0}, "`crop_size` must be a whole number, 1 or more"),
    ({"ratios": (2, 1)}, "`ratios` must be two positive numbers in order"),
    ({"largest_share": 0.0}, r"`largest_share` must be in \(0, 1\]"),
])  # fmt: skip
def test_an_invalid_crop_recipe_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CropRecipe(**{"crop_size": 8, **arguments})
