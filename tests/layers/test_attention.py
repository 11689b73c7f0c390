import numpy as np
from keras import ops

from keras_siamim.layers import Attention


def test_the_attention_of_the_class_token_gives_its_output(rng):
    layer = Attention(num_heads=3)
    x = ops.convert_to_tensor(rng.normal(size=(2, 5, 12)).astype("float32"))
    output = ops.convert_to_numpy(layer(x))
    weights = ops.convert_to_numpy(layer.class_weights(x))
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-6)
    value = ops.convert_to_numpy(layer.qkv(x))[..., 24:].reshape(2, 5, 3, 4)
    mixed = np.einsum("bht,bthc->bhc", weights, value).reshape(2, 12)
    np.testing.assert_allclose(ops.convert_to_numpy(layer.projection(mixed)), output[:, 0], atol=1e-6)
