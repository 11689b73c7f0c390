import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim.layers import Attention, LayerScale, PatchEmbedding, StochasticDepth, Token, TransformerBlock


def test_attention_equals_its_definition(rng):
    x = rng.normal(size=(2, 5, 8)).astype("float32")
    layer = Attention(2)
    y = ops.convert_to_numpy(layer(x))
    q, k, v = np.split(x @ ops.convert_to_numpy(layer.qkv.kernel), 3, -1)
    heads = [t.reshape(2, 5, 2, 4).transpose(0, 2, 1, 3) for t in (q, k, v)]
    logits = heads[0] @ heads[1].transpose(0, 1, 3, 2) / 2
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    mixed = (weights @ heads[2]).transpose(0, 2, 1, 3).reshape(2, 5, 8)
    np.testing.assert_allclose(y, mixed @ ops.convert_to_numpy(layer.projection.kernel), atol=1e-5)


def test_patch_embedding_is_a_strided_convolution(rng):
    x = rng.normal(size=(2, 8, 12, 3)).astype("float32")
    layer = PatchEmbedding(10, 4)
    y = ops.convert_to_numpy(layer(x))
    kernel = ops.reshape(layer.kernel, (4, 4, 3, 10))
    expected = ops.convert_to_numpy(ops.conv(ops.convert_to_tensor(x), kernel, strides=4, data_format="channels_last"))
    np.testing.assert_allclose(y, expected.reshape(2, 6, 10), atol=1e-5)


def test_patch_embedding_embeds_only_the_selected_patches(rng):
    x = rng.normal(size=(2, 8, 12, 3)).astype("float32")
    layer = PatchEmbedding(10, 4)
    ids = np.array([[1, 3], [0, 5]], dtype="int32")
    everything = ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(x, ids)), np.take_along_axis(everything, ids[..., None], 1), atol=1e-6
    )


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean():
    x = np.ones((2000, 3, 2), dtype="float32")
    layer = StochasticDepth(0.25, seed=1)
    y = ops.convert_to_numpy(layer(x, training=True))
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.75], rtol=1e-6)
    assert np.ptp(y.reshape(2000, -1), axis=1).max() == 0
    assert abs(y.mean() - 1) < 0.05
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x, training=False)), x)


def test_layer_scale_of_zero_leaves_the_residual_path_alone(rng):
    x = rng.normal(size=(2, 5, 8)).astype("float32")
    block = TransformerBlock(2, layer_scale_init=0.0)
    np.testing.assert_allclose(ops.convert_to_numpy(block(x)), x, atol=1e-6)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_block_config_round_trip_and_dtype_policy(norm, rng):
    block = TransformerBlock(2, norm=norm, layer_scale_init=0.1, drop_path_rate=0.1, dtype="mixed_bfloat16")
    assert keras.backend.standardize_dtype(block(np.zeros((2, 5, 8), "float32")).dtype) == "bfloat16"
    assert TransformerBlock.from_config(block.get_config()).get_config() == block.get_config()
    assert all(keras.backend.standardize_dtype(v.dtype) == "float32" for v in block.weights if "seed" not in v.path)


@pytest.mark.parametrize("layer", [Token(8), PatchEmbedding(8, 4), LayerScale(0.1), StochasticDepth(0.1), Attention(2)])
def test_config_round_trip(layer):
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


def test_invalid_arguments_are_rejected():
    with pytest.raises(ValueError, match="num_heads.*num_heads=3, width=8"):
        Attention(3).build((None, 5, 8))
    with pytest.raises(ValueError, match="multiple of `patch_size`.*30 x 32.*patch_size=4"):
        PatchEmbedding(8, 4).build((None, 30, 32, 3))
    with pytest.raises(ValueError, match="`norm` must be one of.*'group'"):
        TransformerBlock(2, norm="group")
    with pytest.raises(ValueError, match=r"`rate` must be in \[0, 1\).*1.0"):
        StochasticDepth(1.0)
