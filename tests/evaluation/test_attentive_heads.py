import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim.evaluation.attentive_heads import AttentiveHeads, attention_heads, build_heads


def softmax(x):
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def one_head(tokens, query, kv_kernel, kv_bias, kernel, bias):
    """The head as it is defined: keys and values of all tokens, and attention of the query per group of channels."""
    width = tokens.shape[-1]
    keys, values = np.split(tokens @ kv_kernel + kv_bias, 2, axis=-1)
    groups = []
    for channels in np.split(np.arange(width), attention_heads(width)):
        logits = keys[..., channels] @ query[channels] / np.sqrt(len(channels))
        groups.append(np.einsum("bt,btc->bc", softmax(logits), values[..., channels]))
    return np.concatenate(groups, axis=-1) @ kernel + bias


@pytest.mark.parametrize(("patches", "width"), [(5, 128), pytest.param(1, 6, marks=pytest.mark.one_backend)])
def test_all_heads_at_once_equal_each_head_as_it_is_defined(rng, patches, width):
    tokens = rng.normal(size=(4, patches, width)).astype("float32")
    layer = AttentiveHeads(num_probes=3, num_classes=7)
    layer.build(tokens.shape)
    weights = [rng.normal(0, 0.3, weight.shape).astype("float32") for weight in layer.weights]
    layer.set_weights(weights)

    logits = ops.convert_to_numpy(layer(tokens))

    assert logits.shape == tuple(layer.compute_output_shape(tokens.shape)) == (4, 3, 7)
    for probe in range(3):
        expected = one_head(tokens, *(weight[probe] for weight in weights))
        np.testing.assert_allclose(logits[:, probe], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.one_backend
def test_all_heads_start_equal_and_as_the_seed_says():
    weights = build_heads((4, 8), num_probes=2, num_classes=3, seed=1).get_weights()
    again = build_heads((4, 8), num_probes=1, num_classes=3, seed=1).get_weights()
    other = build_heads((4, 8), num_probes=1, num_classes=3, seed=2).get_weights()

    for both, one in zip(weights, again, strict=True):
        np.testing.assert_array_equal(both, np.concatenate([one, one]))
    assert not np.array_equal(again[0], other[0])
    assert weights[1].std() == pytest.approx(0.02, rel=0.2)


@pytest.mark.one_backend
def test_config_round_trip():
    layer = AttentiveHeads(num_probes=2, num_classes=3)
    assert AttentiveHeads.from_config(layer.get_config()).get_config() == layer.get_config()
    with pytest.raises(ValueError, match="`num_probes` must be"):
        AttentiveHeads(0, 3)


@pytest.mark.one_backend
def test_an_encoder_gives_its_patch_tokens_to_the_heads(rng):
    encoder = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Reshape((4, 12))])
    images = rng.normal(size=(2, 4, 4, 3)).astype("float32")
    tokens = images.reshape(2, 4, 12)[:, 1:]  # the first one is the class token

    with_encoder = build_heads((4, 4, 3), 2, 3, encoder)(images)

    expected = build_heads((3, 12), 2, 3)(tokens)
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (with_encoder, expected)), atol=1e-6)
