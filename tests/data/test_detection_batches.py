import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.detection_batches import detection_batches, detection_test_batches
from keras_siamim.data.detection_recipe import DetectionRecipe, detection_steps_per_epoch
from keras_siamim.data.instance_masks import encode_mask
from keras_siamim.data.sources.box_selection import with_objects
from keras_siamim.data.sources.boxes import open_boxes
from keras_siamim.data.sources.indexed import IndexedSource
from keras_siamim.data.views.color import denormalize

pytestmark = pytest.mark.one_backend

SIZES = [(90, 120), (100, 60), (64, 64), (50, 50)]  # the last one has no objects
# x, y, width, height in whole pixels, so that a box is the same as the box of its mask.
OBJECTS = [(0, [10, 20, 40, 30], 1), (0, [70, 50, 50, 40], 2), (1, [5, 60, 50, 40], 1), (2, [0, 0, 64, 64], 1)]
STEP = 2  # gray levels per pixel


def picture(size, boxes):
    """An image with x in red, y in green, and its objects in blue."""
    y, x = np.mgrid[: size[0], : size[1]]
    pixels = np.stack([STEP * x, STEP * y, np.zeros_like(x)], axis=-1).astype("uint8")
    for x, y, width, height in boxes:
        pixels[y : y + height, x : x + width, 2] = 255
    return pixels


def annotation(number, image, box, category):
    x, y, width, height = box
    polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
    mask = np.zeros(SIZES[image])
    mask[y : y + height, x : x + width] = 1
    segmentation = encode_mask(mask) if number % 2 else [[float(value) for value in polygon]]
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, "segmentation": segmentation}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("coordinates")
    (root / "images").mkdir()
    for image, size in enumerate(SIZES):
        boxes = [box for of_image, box, _ in OBJECTS if of_image == image]
        Image.fromarray(picture(size, boxes)).save(root / f"images/{image}.png")
    annotations = [annotation(number, *found) for number, found in enumerate(OBJECTS)]
    annotations.append({**annotation(9, *OBJECTS[0]), "iscrowd": 1})
    images = [{"id": k, "file_name": f"{k}.png", "height": size[0], "width": size[1]} for k, size in enumerate(SIZES)]
    categories = [{"id": 1, "name": "often"}, {"id": 2, "name": "rare"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "instances.json").write_text(json.dumps(content))
    return root


def decoded_images(folder, **changes):
    """Open the images with boxes from a source that decodes, so that the graphs of the tests are small."""
    contents = [(folder / f"images/{image}.png").read_bytes() for image in range(len(SIZES))]
    encoded = tf.constant([changes.get(f"image_{image}", content) for image, content in enumerate(contents)])
    images = IndexedSource("png", len(SIZES), lambda index: {"image": tf.io.decode_png(tf.gather(encoded, index), 3)})
    return dataclasses.replace(open_boxes(folder), images=images)


@pytest.fixture(scope="module")
def boxes(folder):
    return decoded_images(folder)


@pytest.fixture(scope="module")
def source(boxes):
    return with_objects(boxes, masks=True)


RECIPE = DetectionRecipe(image_size=96, scale=(0.7, 2.0), max_objects=3)


def taken(batches, count):
    return list(batches.take(count).as_numpy_iterator())


def coordinates(pixels, size):
    """Return functions from x and from y in a crop to x and y in its stored image, by the colors of the crop."""
    functions = []
    for axis, channel in ((1, 0), (0, 1)):
        levels = pixels[: size[0], : size[1], channel].mean(axis=1 - axis)
        centers = np.arange(len(levels)) + 0.5
        # The colors are linear but for roundings, and for the border of the image, where the last pixel is repeated.
        inner = (levels > STEP) & (levels < levels.max() - STEP)
        slope, start = np.polyfit(centers[inner], levels[inner] / STEP + 0.5, 1)
        functions.append(lambda x, slope=slope, start=start: start + slope * x)
    return functions


@pytest.mark.parametrize("masks", [False, True])
def test_boxes_and_masks_stay_where_the_colors_say(source, masks):
    recipe = DetectionRecipe(96, (0.7, 2.0), masks=masks, max_objects=3)
    flips, objects = set(), 0
    for batch in taken(detection_batches(source, recipe, batch_size=3, seed=1), 8):
        assert batch["images"].shape == (3, 96, 96, 3)
        for row, image in enumerate(batch["image_ids"]):
            size, pixels = batch["sizes"][row], denormalize(batch["images"][row]).astype("float32")
            assert batch["original_sizes"][row].tolist() == list(SIZES[image])
            assert not batch["images"][row, size[0] :].any()
            assert not batch["images"][row, :, size[1] :].any()
            x_of, y_of = coordinates(pixels, size)
            flips.add(x_of(0) > x_of(1))
            seen = np.sort([x_of(0), x_of(size[1])]), np.sort([y_of(0), y_of(size[0])])
            expected = []
            for of_image, (x, y, width, height), category in OBJECTS:
                corners = [*np.clip([x, x + width], *seen[0]), *np.clip([y, y + height], *seen[1])]
                if of_image == image:
                    expected.append([*corners, category - 1])
            found = [
                [*np.sort(x_of(box[::2])), *np.sort(y_of(box[1::2])), label]
                for box, label in zip(batch["boxes"][row], batch["classes"][row], strict=True)
                if label >= 0
            ]
            found, expected = (
                np.array([box for box in sorted(boxes) if min(box[1] - box[0], box[3] - box[2]) > 2]).reshape(-1, 5)
                for boxes in (found, expected)
            )
            objects += len(expected)
            # Masks have whole pixels, which are up to 1 / 0.7 of the stored image.
            np.testing.assert_allclose(found, expected, atol=1.0 if masks else 0.3)
            if masks:
                inside = batch["masks"][row].any(axis=0)
                clear = np.abs(pixels[..., 2] - 127) > 100  # no pixel between an object and its surroundings
                np.testing.assert_array_equal(inside[clear], pixels[..., 2][clear] > 127)
                of_boxes = np.zeros_like(inside)
                for x1, y1, x2, y2 in batch["boxes"][row].astype(int):
                    of_boxes[y1:y2, x1:x2] = True
                np.testing.assert_array_equal(inside, of_boxes)
    assert flips == {False, True}
    assert objects > 20


def test_batches_depend_on_seed_and_step_alone(source):
    whole = taken(detection_batches(source, RECIPE, batch_size=2, seed=3), 5)
    # The fifth batch is in the third epoch of three images.
    resumed = taken(detection_batches(source, RECIPE, batch_size=2, seed=3, start_step=4), 1)[0]
    for key, values in resumed.items():
        np.testing.assert_array_equal(values, whole[4][key])
    other = taken(detection_batches(source, RECIPE, batch_size=2, seed=4), 1)[0]
    assert not np.array_equal(other["images"], whole[0]["images"])
    ids = np.concatenate([batch["image_ids"] for batch in whole])
    assert [sorted(ids[k : k + 3].tolist()) for k in (0, 3, 6)] == [[0, 1, 2]] * 3
    assert detection_steps_per_epoch(source, RECIPE, batch_size=2) == 2  # 1.5 batches


def test_workers_share_the_common_order(source):
    alone = taken(detection_batches(source, RECIPE, batch_size=4, seed=5), 2)
    for worker in range(2):
        options = {"seed": 5, "workers": 2, "worker": worker, "start_step": 1}
        share = taken(detection_batches(source, RECIPE, batch_size=2, **options), 1)[0]
        np.testing.assert_array_equal(share["images"], alone[1]["images"][worker::2])


def test_images_with_rare_classes_are_repeated_with_other_crops(source):
    recipe = DetectionRecipe(96, (0.7, 2.0), repeat_threshold=1.0)
    factors = recipe.repeat_factors(source)
    np.testing.assert_allclose(factors, [3**0.5, 1, 1])
    assert detection_steps_per_epoch(source, recipe, batch_size=1) == 4
    batches = taken(detection_batches(source, recipe, batch_size=4, start_step=3), 2)
    ids = np.concatenate([batch["image_ids"] for batch in batches])
    images = np.concatenate([batch["images"] for batch in batches])
    assert np.sum(ids == 0) > 2
    assert len(np.unique(images[ids == 0], axis=0)) == np.sum(ids == 0)


def test_the_largest_objects_are_kept(source):
    recipe = DetectionRecipe(96, (1.0, 1.0), flip_probability=0.0, max_objects=1)
    batch = taken(detection_batches(source, recipe, batch_size=3), 1)[0]
    row = batch["image_ids"].tolist().index(0)
    assert batch["boxes"][row].tolist() == [[56, 40, 96, 72]]  # 120 x 90 becomes 96 x 72
    assert batch["classes"][row].tolist() == [1]


def test_an_unreadable_image_is_replaced_by_one_with_objects(folder):
    source = with_objects(decoded_images(folder, image_2=b"no image"))
    ledger = Ledger(limit=0.5)
    batch = taken(detection_batches(source, RECIPE, batch_size=3, ledger=ledger), 1)[0]
    assert sorted(batch["image_ids"].tolist()) == [0, 0, 1]  # the first image follows the last one with objects
    assert [entry["image"] for entry in ledger.entries()] == ["image 2"]


def test_test_images_fit_the_square_in_the_order_of_the_source(folder, boxes):
    batches = taken(detection_test_batches(boxes, 32, batch_size=3), 2)

    whole = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    assert whole["sizes"].tolist() == [[24, 32], [32, 19], [32, 32], [32, 32]]
    assert whole["original_sizes"].tolist() == [list(size) for size in SIZES]
    assert whole["image_ids"].tolist() == [0, 1, 2, 3]
    for number, (height, width) in enumerate(whole["sizes"]):
        with Image.open(folder / f"images/{number}.png") as image:
            expected = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), "float32")
        found = denormalize(whole["images"][number])
        assert np.abs(found[:height, :width] - expected).max() < 1.6
        assert not whole["images"][number, height:].any()
        assert not whole["images"][number, :, width:].any()


def test_invalid_arguments_are_refused(boxes, source):
    with pytest.raises(ValueError, match="`source` must be one of `with_objects`"):
        detection_batches(boxes, RECIPE, batch_size=1)
    for name, value in (("batch_size", 0), ("start_step", -1), ("worker", 1)):
        with pytest.raises(ValueError, match=f"`{name}` must be .* Received: {value}"):
            detection_batches(source, RECIPE, **{"batch_size": 1, name: value})
    with pytest.raises(ValueError, match="`image_size` must be 1 or more"):
        detection_test_batches(source, 0, 1)
    for name, value in (("image_size", 0), ("scale", (0.0, 1.0)), ("flip_probability", 2.0), ("max_objects", 0)):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            DetectionRecipe(**{name: value})
