import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim import ViTEncoder
from keras_siamim.optimizers import LayerDecayAdamW
from keras_siamim.segmentation import UPerNet
from keras_siamim.segmentation.backbone import default_taps, feature_maps_of

CROP, CLASSES = 32, 3


def encoder(**changes):
    return ViTEncoder(**{"image_size": 16, "patch_size": 8, "width": 8, "depth": 4, "num_heads": 2, **changes})


def upernet(**changes):
    return UPerNet(encoder(), CLASSES, crop_size=CROP, head_width=6, auxiliary_width=5, **changes)


@pytest.fixture(scope="module")
def trained():
    """A model after eight epochs on images whose classes are their colors, and its losses."""
    keras.utils.set_random_seed(0)
    model = upernet(drop_path_rate=0.1)
    optimizer = LayerDecayAdamW(2e-2, depth=4, layer_decay=0.75, decay_tokens=True)
    model.compile(optimizer)
    images, labels = color_images(8)
    history = model.fit(images, labels, batch_size=4, epochs=8, verbose=0)
    return model, history.history["loss"]


def color_images(count):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.repeat(rng.integers(0, CLASSES, (count, 2, 2)), CROP // 2, axis=1), CROP // 2, axis=2)
    images = np.eye(CLASSES, dtype="float32")[labels] + 0.1 * rng.normal(size=(*labels.shape, 3)).astype("float32")
    labels[:, 0] = 255
    return images, labels.astype("uint8")


def test_taps_are_the_shares_of_the_depth():
    assert [default_taps(depth) for depth in (4, 6, 9, 12, 24)] == [
        (1, 2, 3, 4),
        (2, 3, 4, 6),
        (3, 5, 6, 9),
        (4, 6, 8, 12),
        (8, 12, 16, 24),
    ]


@pytest.mark.parametrize(
    "changes",
    [{}, {"final_norm": True, "layer_scale_init": 0.1}, {"position_embedding": "learned"}],
    ids=["plain", "scaled", "learned positions"],
)
def test_the_backbone_starts_with_the_maps_of_the_encoder(changes, rng):
    source = encoder(**changes)
    images = rng.normal(size=(2, 16, 16, 3)).astype("float32")
    maps = feature_maps_of(source, (16, 16), taps=(2, 4))(images)
    outputs = source.block_outputs(images)
    for value, tokens in zip(maps, (outputs[1], outputs[3]), strict=True):
        expected = ops.convert_to_numpy(tokens)[:, 1:].reshape(2, 2, 2, 8)
        np.testing.assert_allclose(ops.convert_to_numpy(value), expected, atol=1e-5)


def test_training_lowers_the_loss_and_counts_no_skipped_step(trained):
    model, losses = trained
    assert losses[-1] < 0.8 * losses[0]
    assert int(ops.convert_to_numpy(model.skipped)) == 0


def test_layers_learn_and_decay_as_in_mmsegmentation(trained):
    model, _ = trained
    optimizer = model.optimizer
    found = {}
    for variable in model.trainable_variables:
        found[variable.path.removeprefix("upernet/")] = (
            optimizer.learning_rate_scale(variable),
            optimizer.decays(variable),
        )
    assert found["backbone/position_embedding/embedding"] == (0.75**5, True)
    assert found["backbone/class_token/token"] == (0.75**5, True)
    assert found["backbone/block_1/attention/bias_table"] == (0.75**3, True)
    assert found["backbone/block_3/scale_1/scale"] == (0.75, False)
    assert found["head/logits/kernel"] == (1.0, True)
    assert found["head/fusion/norm/gamma"] == (1.0, False)


def test_a_saved_model_segments_and_trains_as_before(trained, tmp_path):
    model, _ = trained
    images, labels = color_images(4)
    model.save(tmp_path / "segmenter.keras")
    loaded = keras.saving.load_model(tmp_path / "segmenter.keras")
    np.testing.assert_array_equal(loaded.predict_on_batch(images), model.predict_on_batch(images))
    assert loaded.optimizer.decay_tokens
    assert int(ops.convert_to_numpy(loaded.optimizer.iterations)) == 16


def test_windows_cover_images_of_every_size(trained, rng):
    model, _ = trained
    image = rng.normal(size=(CROP, CROP, 3)).astype("float32")
    coarse = model.predict_on_batch(image[None])
    # Two pixels per logit: the first pixel has the first logits, the second lies a quarter of the way to the next.
    np.testing.assert_allclose(model.sliding_logits(image)[0, 0], coarse[0, 0, 0], atol=1e-5)
    middle = 0.75 * coarse[0, 0, 0] + 0.25 * coarse[0, 0, 1]
    np.testing.assert_allclose(model.sliding_logits(image)[0, 1], middle, atol=1e-5)
    assert model.sliding_logits(rng.normal(size=(20, 50, 3)).astype("float32")).shape == (20, 50, CLASSES)


@pytest.mark.one_backend("torch")
def test_half_precision_gives_float32_logits():
    images, labels = color_images(2)
    model = upernet(dtype="mixed_bfloat16")
    assert model.predict_on_batch(images).dtype == "float32"
    model.compile(LayerDecayAdamW(1e-3, depth=4))
    assert np.isfinite(model.train_on_batch(images, labels, return_dict=True)["auxiliary_loss"])


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"taps": (1, 2, 3, 9)}, r"`taps` must be blocks in \[1, 4\]. Received: \[1, 2, 3, 9\]"),
        ({"taps": (1, 2)}, "`taps` must be four blocks"),
        ({"ignore": 1}, "`ignore` must be no class"),
        ({"num_classes": 1}, "`num_classes` must be a whole number, 2 or more"),
        ({"crop_size": 30}, "`crop_size` must be multiples of the encoder's patch size, 8"),
        ({"encoder": keras.Sequential()}, "`encoder` must be a ViTEncoder.*Received: Sequential"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    arguments = {"encoder": encoder(), "num_classes": CLASSES, "crop_size": CROP, **changes}
    with pytest.raises(ValueError, match=message):
        UPerNet(**arguments)
