import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim import ViTEncoder
from keras_siamim.backbones import VIT_SIZES
from keras_siamim.ops import interpolate_positions, sincos_position_table

SETTINGS = {"image_size": 32, "patch_size": 8, "width": 24, "depth": 2, "num_heads": 3}


@pytest.mark.parametrize(
    ("size", "millions"), [("tiny", 5.5), ("small", 21.6), ("base", 85.7), ("large", 303.1), ("huge", 630.4)]
)
def test_sizes_are_those_of_the_literature(size, millions):
    spec = VIT_SIZES[size]
    width, patch = spec["width"], 14 if size == "huge" else 16
    block = 12 * width**2 + 13 * width
    total = spec["depth"] * block + 3 * patch**2 * width + 2 * width
    assert total / 1e6 == pytest.approx(millions, abs=0.6)


def test_a_preset_name_spells_the_architecture():
    encoder = ViTEncoder.from_preset("vit_tiny_patch16_64", depth=1)
    assert (encoder.width, encoder.num_heads, encoder.patch_size, encoder.image_size, encoder.depth) == (
        192, 3, 16, (64, 64), 1,
    )  # fmt: skip
    with pytest.raises(ValueError, match="vit_SIZE_patchP_S.*'vit_giant_patch14_224'"):
        ViTEncoder.from_preset("vit_giant_patch14_224")


def test_any_image_size_that_the_patch_divides(rng):
    encoder = ViTEncoder(**SETTINGS)
    assert encoder(np.zeros((2, 16, 40, 3), "float32")).shape == (2, 11, 24)
    assert encoder.compute_output_shape((2, 16, 40, 3)) == (2, 11, 24)
    with pytest.raises(ValueError, match="multiple of `patch_size`.*20 x 32"):
        encoder(np.zeros((2, 20, 32, 3), "float32"))


def test_all_patches_visible_equals_the_full_image_and_order_does_not_matter(rng):
    encoder = ViTEncoder(**SETTINGS)
    images = rng.normal(size=(2, 32, 32, 3)).astype("float32")
    whole = ops.convert_to_numpy(encoder(images))
    ids = np.stack([rng.permutation(16) for _ in range(2)]).astype("int32")
    shuffled = ops.convert_to_numpy(encoder(images, ids))
    np.testing.assert_allclose(shuffled[:, 1:], np.take_along_axis(whole[:, 1:], ids[..., None], 1), atol=1e-5)
    np.testing.assert_allclose(shuffled[:, 0], whole[:, 0], atol=1e-5)


def test_masked_patches_have_no_influence(rng):
    encoder = ViTEncoder(**SETTINGS)
    images = rng.normal(size=(1, 32, 32, 3)).astype("float32")
    other = images.copy()
    other[:, 8:] = 7.0  # patches 4 to 15
    ids = np.arange(4, dtype="int32")[None]
    np.testing.assert_array_equal(ops.convert_to_numpy(encoder(images, ids)), ops.convert_to_numpy(encoder(other, ids)))


def test_both_data_formats_agree(rng):
    last = ViTEncoder(**SETTINGS)
    first = ViTEncoder(**SETTINGS, data_format="channels_first")
    first.set_weights(last.get_weights())
    images = rng.normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(
        ops.convert_to_numpy(first(images.transpose(0, 3, 1, 2))), ops.convert_to_numpy(last(images)), atol=1e-6
    )


def test_a_loaded_encoder_computes_the_same(tmp_path, rng):
    encoder = ViTEncoder(**SETTINGS, layer_scale_init=0.1, drop_path_rate=0.2, final_norm=True)
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.saving.load_model(tmp_path / "encoder.keras")
    images = rng.normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(images)), ops.convert_to_numpy(encoder(images)))
    assert loaded.get_config() == encoder.get_config()


def test_drop_path_rises_linearly_with_depth():
    encoder = ViTEncoder(**{**SETTINGS, "depth": 3}, drop_path_rate=0.2)
    assert [block.drop_path.rate for block in encoder.blocks] == pytest.approx([0, 0.1, 0.2])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_size": 30}, "multiple of `patch_size`"),
        ({"num_heads": 5}, "num_heads.*num_heads=5, width=24"),
        ({"width": 18, "num_heads": 3}, "multiple of 4.*18"),
    ],
)
def test_sizes_that_do_not_fit_are_rejected(wrong, message):
    with pytest.raises(ValueError, match=message):
        ViTEncoder(**{**SETTINGS, **wrong})


def test_learned_positions_are_resized_and_added_to_patches_and_class_token(rng):
    encoder = ViTEncoder(**SETTINGS, position_embedding="learned")
    table = encoder.learned_positions.embedding
    assert tuple(table.shape) == (1, 17, 24)
    plain = ViTEncoder(**SETTINGS)
    plain.set_weights([w for w, v in zip(encoder.get_weights(), encoder.weights, strict=True) if v is not table])
    table.assign(np.concatenate([np.zeros((1, 24)), sincos_position_table((4, 4), 24)])[None])
    images = rng.normal(size=(2, 32, 32, 3)).astype("float32")
    ids = np.array([[0, 3, 9], [1, 2, 15]], "int32")
    for arguments in ((images,), (images, ids)):
        np.testing.assert_allclose(
            ops.convert_to_numpy(encoder(*arguments)), ops.convert_to_numpy(plain(*arguments)), atol=1e-6
        )
    learned = rng.normal(size=(1, 17, 24)).astype("float32")
    table.assign(learned)
    larger = rng.normal(size=(1, 56, 40, 3)).astype("float32")
    whole = ops.convert_to_numpy(encoder.embed_patches(larger))
    expected = interpolate_positions(learned[0], (4, 4), (7, 5))
    bare = ops.convert_to_numpy(encoder.patch_embedding(larger))
    np.testing.assert_allclose(whole[:, 1:] - bare, expected[None, 1:], atol=1e-5)
    token = ops.convert_to_numpy(encoder.class_token.token)
    np.testing.assert_allclose(whole[:, :1] - token, learned[:, :1], atol=1e-6)


def test_learned_positions_are_saved_and_loaded(tmp_path):
    encoder = ViTEncoder(**SETTINGS, position_embedding="learned")
    encoder.save(tmp_path / "encoder.keras")
    again = keras.saving.load_model(tmp_path / "encoder.keras")
    for ours, loaded in zip(encoder.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, loaded)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", ["patch_size", "width", "depth", "num_heads"])
@pytest.mark.parametrize("value", [0, -3, 2.5, True, "4"])
def test_sizes_other_than_positive_whole_numbers_are_rejected_by_name(name, value):
    sizes = {"image_size": 16, "patch_size": 8, "width": 12, "depth": 1, "num_heads": 3}
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number, 1 or more"):
        ViTEncoder(**{**sizes, name: value})


@pytest.mark.one_backend
def test_numpy_integers_are_valid_sizes(tmp_path):
    two = np.int64(2)
    encoder = ViTEncoder(image_size=np.int32(16), patch_size=4 * two, width=6 * two, depth=two, num_heads=np.int16(3))
    encoder.save(tmp_path / "encoder.keras")
    assert keras.saving.load_model(tmp_path / "encoder.keras").image_size == (16, 16)
