"""ConvNeXt V2 encoder: dense, and masked without leaking."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim import ConvNeXtEncoder
from keras_siamim.layers import GlobalResponseNorm

SETTINGS = {"image_size": 16, "stem": 2, "widths": (8, 12), "depths": (1, 2)}
GRID = 16  # cells of 4 pixels


@pytest.fixture(scope="module")
def encoder():
    """Encoder whose response norms do something: their weights start at zero."""
    encoder = ConvNeXtEncoder(**SETTINGS)
    generator = np.random.default_rng(0)
    for variable in encoder.trainable_variables:
        variable.assign(generator.normal(scale=0.3, size=variable.shape).astype("float32"))
    return encoder


class LearnedImages(keras.Model):
    """Model whose only weight is its images, so that a step of gradient descent shows their gradient."""

    def __init__(self, images, function):
        super().__init__()
        self.images = self.add_weight(shape=images.shape, initializer="zeros", name="images")
        self.images.assign(images)
        self.function = function

    def call(self, _):
        return self.function(self.images.value)


def gradient_of_sum(function, images):
    """Return the gradient of the sum of `function(images)` by the images."""
    model = LearnedImages(images, function)
    model.compile(keras.optimizers.SGD(1.0), loss=lambda _, y: ops.sum(y))
    model.train_on_batch(np.zeros((len(images), 1)), np.zeros((len(images), 1)))
    return images - ops.convert_to_numpy(model.images)


def images_of(rng, count=2, side=16):
    return rng.normal(size=(count, side, side, 3)).astype("float32")


def ids_of(rng, count=2, visible=6):
    return np.stack([rng.permutation(GRID)[:visible] for _ in range(count)]).astype("int32")


@pytest.mark.parametrize(
    ("size", "millions"), [("atto", 3.39), ("femto", 4.85), ("pico", 8.55), ("nano", 14.98), ("tiny", 27.86)]
)
@pytest.mark.one_backend
def test_sizes_are_those_of_the_paper(size, millions):
    # Table 8 of the paper counts the classifier too, rounded; without it these are timm's.
    assert ConvNeXtEncoder.from_preset(f"convnextv2_{size}").count_params() / 1e6 == pytest.approx(millions, abs=0.01)


def test_masked_pixels_have_no_influence_and_exactly_no_gradient(encoder, rng):
    images, ids = images_of(rng), ids_of(rng)
    gradient = gradient_of_sum(lambda images: encoder(images, ids) ** 2, images)
    cells = gradient.reshape(2, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, GRID, -1)
    visible = np.zeros((2, GRID), bool)
    np.put_along_axis(visible, ids, values=True, axis=1)
    assert np.all(cells[~visible] == 0)
    assert np.all(np.any(cells[visible] != 0, axis=-1))


def test_all_cells_visible_equals_the_dense_call_in_any_order(encoder, rng):
    images, ids = images_of(rng), ids_of(rng, visible=GRID)
    dense, masked = (ops.convert_to_numpy(encoder(images, order)) for order in (None, ids))
    np.testing.assert_allclose(
        masked, np.take_along_axis(dense, ids[..., None], axis=1), atol=1e-6 * np.abs(dense).max()
    )


def test_masking_equals_multiplying_by_the_mask_at_every_step(encoder, rng):
    """The encoder computes at visible cells alone. The paper's masked convolution computes everywhere and masks."""
    images, ids = images_of(rng), ids_of(rng)
    visible = np.zeros((2, GRID, 1), "float32")
    np.put_along_axis(visible, ids[..., None], 1.0, axis=1)

    def run(layer, x):
        return ops.convert_to_numpy(layer(ops.convert_to_tensor(x)))

    def merged(embedding, x):
        side = x.shape[1] // embedding.patch_size
        return run(embedding, x).reshape(2, side, side, -1)

    x = run(encoder.stem_norm, merged(encoder.patch_embedding, images))
    for stage, blocks in enumerate(encoder.stages):
        if stage:
            x = merged(encoder.transitions[stage - 1], run(encoder.transition_norms[stage - 1], x))
        side = x.shape[1] // 4
        mask = visible.reshape(2, 4, 4, 1).repeat(side, 1).repeat(side, 2)
        for block in blocks:
            y = run(block.norm, run(block.depthwise, x * mask) * mask)
            y = run(lambda y: ops.gelu(y, approximate=False), run(block.expand, y))
            norms = np.sqrt(np.sum((y * mask) ** 2, axis=(1, 2), keepdims=True))
            scale, offset = (ops.convert_to_numpy(weight) for weight in block.response_norm.weights)
            y = scale * y * norms / (norms.mean(axis=-1, keepdims=True) + 1e-6) + offset + y
            x = x + run(block.reduce, y)
    expected = np.take_along_axis(x.reshape(2, GRID, -1), ids[..., None], axis=1)
    found = ops.convert_to_numpy(encoder(images, ids))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_the_response_norm_of_zeros_has_a_finite_gradient():
    layer = GlobalResponseNorm()
    layer.build((None, 4, 3))
    layer.scale.assign([1.0, 2.0, 3.0])
    gradient = gradient_of_sum(layer, np.zeros((1, 4, 3), "float32"))
    assert np.isfinite(gradient).all()


def test_stages_are_feature_maps_of_decreasing_size(encoder, rng):
    maps = encoder.feature_maps(images_of(rng, side=24))
    assert [tuple(x.shape) for x in maps] == [(2, 12, 12, 8), (2, 6, 6, 12)]
    tokens = encoder(images_of(np.random.default_rng(0), side=24))
    np.testing.assert_array_equal(*(ops.convert_to_numpy(ops.reshape(x, (2, 36, 12))) for x in (maps[-1], tokens)))
    assert encoder.compute_output_shape((None, 24, 24, 3)) == (None, 36, 12)
    assert encoder.compute_output_shape((None, 24, 24, 3), (None, 5)) == (None, 5, 12)


def test_both_data_formats_agree(encoder, rng):
    images, ids = images_of(rng), ids_of(rng)
    other = ConvNeXtEncoder(**SETTINGS, data_format="channels_first")
    other.set_weights(encoder.get_weights())
    for order in (None, ids):
        expected, found = encoder(images, order), other(images.transpose(0, 3, 1, 2), order)
        np.testing.assert_array_equal(*(ops.convert_to_numpy(x) for x in (expected, found)))


def test_saving_and_loading(encoder, tmp_path, rng):
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.saving.load_model(tmp_path / "encoder.keras")
    images = images_of(rng)
    np.testing.assert_array_equal(*(ops.convert_to_numpy(model(images)) for model in (encoder, loaded)))


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 18}, "multiple of `patch_size`.*18 x 18, patch_size=4"),
        ({"depths": (1,)}, "one entry per stage"),
        ({"stem": 0}, "`stem` must be"),
        ({"drop_path_rate": 1.0}, "`rate` must be in"),
    ],
)
def test_invalid_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ConvNeXtEncoder(**SETTINGS | changes)


@pytest.mark.one_backend
def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="convnextv2_SIZE with SIZE one of atto.*'convnext_tiny'"):
        ConvNeXtEncoder.from_preset("convnext_tiny")


@pytest.mark.one_backend
def test_every_weight_belongs_to_the_stem_or_a_stage(encoder):
    layers = [encoder.layer_of(variable.path) for variable in encoder.trainable_variables]
    assert set(layers) == {0, 1, 2}
    assert encoder.num_layers == 3
