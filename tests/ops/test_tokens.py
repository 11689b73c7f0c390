import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim.layers import PatchEmbedding
from keras_siamim.ops import gather_tokens, patchify, standardize, unpatchify


def test_patchify_takes_patches_row_by_row_with_channels_last(rng):
    images = rng.normal(size=(2, 8, 12, 3)).astype("float32")
    patches = ops.convert_to_numpy(patchify(images, 4))
    assert patches.shape == (2, 6, 48)
    np.testing.assert_array_equal(patches[1, 4], images[1, 4:8, 4:8].reshape(-1))


def test_patchify_gives_the_same_for_both_data_formats(rng):
    images = rng.normal(size=(2, 8, 12, 3)).astype("float32")
    first = patchify(images.transpose(0, 3, 1, 2), 4, "channels_first")
    np.testing.assert_array_equal(ops.convert_to_numpy(first), ops.convert_to_numpy(patchify(images, 4)))


@pytest.mark.one_backend
def test_an_unknown_data_format_is_refused():
    for build in (lambda name: patchify(np.zeros((1, 4, 4, 3)), 4, name), lambda name: PatchEmbedding(8, 4, name)):
        for name in ("NCHW", ""):
            with pytest.raises(ValueError, match=f"`data_format` must be one of .*Received: '{name}'"):
                build(name)


def test_unpatchify_undoes_patchify(rng):
    images = rng.normal(size=(2, 8, 12, 3)).astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(unpatchify(patchify(images, 4), (2, 3), 4)), images)


def test_gather_tokens_picks_by_image(rng):
    tokens = rng.normal(size=(2, 5, 3)).astype("float32")
    ids = np.array([[0, 4], [1, 2]], dtype="int32")
    picked = ops.convert_to_numpy(gather_tokens(ops.convert_to_tensor(tokens), ids))
    np.testing.assert_array_equal(picked, np.stack([tokens[0, [0, 4]], tokens[1, [1, 2]]]))


def test_standardize_gives_zero_mean_and_unit_variance_in_float32(rng):
    x = ops.cast(ops.convert_to_tensor(3 + 5 * rng.normal(size=(4, 64)).astype("float32")), "bfloat16")
    y = standardize(x, 1e-5)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    y = ops.convert_to_numpy(y)
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(-1), 1, atol=1e-4)
