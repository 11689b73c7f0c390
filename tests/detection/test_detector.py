import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim import ViTEncoder
from keras_siamim.detection import DetectorSettings, MaskRCNN, image_masks
from keras_siamim.optimizers import LayerDecayAdamW

SIZE, CLASSES = 32, 2
SMALL = {
    "anchor_sizes": (4, 8, 16, 32, 64),
    "anchors_sampled": 32,
    "pre_nms_train": 40,
    "pre_nms_test": 40,
    "post_nms_train": 20,
    "post_nms_test": 20,
    "regions_sampled": 16,
    "canonical_size": 7,
    "detections": 4,
    "pyramid_width": 8,
    "head_width": 8,
    "dense_width": 16,
}


def detector(settings=None, **changes):
    encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=2, num_heads=2)
    arguments = {"window_size": 2, "seed": 0, "settings": settings or DetectorSettings(**SMALL), **changes}
    return MaskRCNN(encoder, CLASSES, SIZE, **arguments)


def square_images(count, objects=2):
    """Images of 32 x 24 pixels with one square each, whose color is its class."""
    rng = np.random.default_rng(0)
    images = np.zeros((count, SIZE, SIZE, 3), "float32")
    masks = np.zeros((count, objects, SIZE, SIZE), "uint8")
    boxes, classes = np.zeros((count, objects, 4), "float32"), np.full((count, objects), -1, "int32")
    for index in range(count):
        side = rng.integers(8, 14)
        x, y = rng.integers(0, 24 - side), rng.integers(0, 32 - side)
        classes[index, 0] = index % CLASSES
        boxes[index, 0] = (x, y, x + side, y + side)
        masks[index, 0, y : y + side, x : x + side] = 1
        images[index, y : y + side, x : x + side, classes[index, 0]] = 3
    sizes = np.tile(np.array([32, 24], "int32"), (count, 1))
    return {"images": images, "sizes": sizes, "boxes": boxes, "classes": classes, "masks": masks}


@pytest.fixture(scope="module")
def trained():
    """A model after training on squares, its losses, and the batches."""
    keras.utils.set_random_seed(0)
    model = detector(drop_path_rate=0.1)
    model.compile(LayerDecayAdamW(1e-2, depth=2, layer_decay=0.75))
    batch = square_images(8)
    history = model.fit(batch, batch_size=4, epochs=15, verbose=0)
    return model, history.history, batch


def test_training_lowers_every_loss_and_skips_no_step(trained):
    model, history, _ = trained
    assert set(history) >= {"loss", "anchor_class_loss", "anchor_box_loss", "class_loss", "box_loss", "mask_loss"}
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert history["anchor_class_loss"][-1] < history["anchor_class_loss"][0]
    assert int(ops.convert_to_numpy(model.skipped)) == 0


# JAX would compile this for half a minute. `keras-siamim verify` compares detections on every backend.
@pytest.mark.one_backend("torch")
def test_detections_are_boxes_in_pixels_of_the_original_images(trained):
    model, _, batch = trained
    test = {"images": batch["images"], "sizes": batch["sizes"]}
    resized = model.predict({**test, "original_sizes": test["sizes"]}, batch_size=4, verbose=0)
    original = model.predict({**test, "original_sizes": 3 * test["sizes"]}, batch_size=4, verbose=0)
    np.testing.assert_allclose(original["boxes"], 3 * resized["boxes"], rtol=1e-5, atol=1e-4)
    assert original["counts"].min() >= 1
    for image, count in enumerate(original["counts"]):
        boxes, scores = original["boxes"][image, :count], original["scores"][image]
        assert (boxes >= 0).all()
        assert (boxes <= [72, 96, 72, 96]).all()
        assert (np.diff(scores) <= 0).all()
        assert (original["classes"][image, count:] == -1).all()
        masks = image_masks(original["masks"][image, :count], boxes, 96, 72)
        assert masks.shape == (count, 96, 72)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.round().astype(int), strict=True):
            assert mask.sum() == mask[max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1].sum()


def test_a_saved_model_detects_and_trains_as_before(trained, tmp_path):
    model, _, batch = trained
    model.save(tmp_path / "detector.keras")
    loaded = keras.saving.load_model(tmp_path / "detector.keras")
    assert loaded.settings == model.settings
    for expected, found in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert int(ops.convert_to_numpy(loaded.optimizer.iterations)) == 30
    assert loaded.optimizer.layer_decay == 0.75


@pytest.mark.one_backend
def test_the_backbone_starts_with_the_features_of_the_encoder():
    encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=2, num_heads=2)
    model = MaskRCNN(encoder, CLASSES, 16, settings=DetectorSettings(**SMALL), global_blocks=(0, 1))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model.backbone.blocks[1].attention.qkv.kernel),
        ops.convert_to_numpy(encoder.blocks[1].attention.qkv.kernel),
    )


@pytest.mark.one_backend
def test_bytes_are_normalized_and_their_padding_is_ignored():
    model, rng = detector(masks=False), np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1, SIZE, SIZE, 3)).astype("uint8")
    changed = pixels.copy()
    changed[:, :, 24:] = 255
    sizes = np.array([[32, 24]], "int32")
    maps, others = (model.feature_maps({"images": x, "sizes": sizes}) for x in (pixels, changed))
    np.testing.assert_array_equal(ops.convert_to_numpy(maps[0]), ops.convert_to_numpy(others[0]))


@pytest.mark.one_backend("tensorflow")
def test_images_without_objects_and_a_federated_loss_train_in_half_precision():
    batch = square_images(2)
    del batch["masks"]
    batch["classes"][1] = -1
    settings = DetectorSettings.lvis(**SMALL, federated_classes=1)
    model = detector(settings, masks=False, class_counts=[100, 1], dtype="mixed_bfloat16")
    for _ in range(2):
        losses = model(batch, training=True)
        assert "mask_loss" not in losses
        assert all(np.isfinite(value) and value.dtype == "float32" for value in losses.values())
        batch["classes"][:] = -1
    found = model({"images": batch["images"], "sizes": batch["sizes"]})
    assert found["boxes"].dtype == "float32"


@pytest.mark.one_backend
def test_layers_learn_at_decaying_rates():
    model = detector()
    optimizer = LayerDecayAdamW(1.0, depth=2, layer_decay=0.5)
    optimizer.build(model.trainable_variables)
    scales = {v.path.removeprefix("mask_rcnn/"): optimizer.learning_rate_scale(v) for v in model.trainable_variables}
    assert scales["backbone/position_embedding/embedding"] == 0.125
    assert scales["backbone/block_0/attention/row_table"] == 0.25
    assert scales["backbone/block_1/mlp/expand/kernel"] == 0.5
    assert all(scale == 1 for path, scale in scales.items() if not path.startswith("backbone/"))


@pytest.mark.one_backend
def test_validation_data_is_refused_with_the_reason():
    model, batch = detector(masks=False), square_images(1)
    with pytest.raises(ValueError, match="compute its average precision instead"):
        model.compute_loss(batch, y_pred=model(batch))


@pytest.mark.one_backend
def test_missing_masks_are_named():
    batch = square_images(1)
    del batch["masks"]
    with pytest.raises(ValueError, match="masks"):
        detector()(batch, training=True)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_counts": [1]}, "`class_counts` must have 2 numbers. Received: 1"),
        ({"class_counts": [1, 2]}, "`class_counts` must be None unless `settings.sigmoid`"),
        ({"global_blocks": (5,)}, r"`global_blocks` must be in \[0, 2\)"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        detector(**changes)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anchor_sizes": (8, 16)}, "`anchor_sizes` must be five numbers"),
        ({"detections": 0}, "`detections` must be a whole number, 1 or more. Received: 0"),
        ({"nms_threshold": 1.5}, r"`nms_threshold` must be a number in \[0, 1\]. Received: 1.5"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DetectorSettings(**changes)
