import numpy as np
import pytest
from keras import ops

from keras_siamim import ViTEncoder
from keras_siamim.evaluation.patch_features import RawPatches, extract_patch_features, grid_of


def batches(rng, sizes=(3, 2), shape=(8, 12)):
    for size in sizes:
        yield rng.normal(size=(size, *shape, 3)).astype("float32"), rng.integers(0, 3, (size, *shape)).astype("uint8")


@pytest.mark.parametrize("final_norm", [False, True])
def test_tokens_are_those_of_the_encoder_in_order(final_norm, rng, tmp_path):
    encoder = ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2, final_norm=final_norm)
    split = list(batches(rng))
    features = extract_patch_features(encoder, split, cache_dir=tmp_path)
    assert features.grid == (2, 3)
    expected = ops.convert_to_numpy(encoder(split[1][0]))[:, 1:]
    np.testing.assert_allclose(features.tokens[3:], expected, atol=1e-5)
    np.testing.assert_array_equal(features.annotations, np.concatenate([labels for _, labels in split]))
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    again = extract_patch_features(encoder, split, cache_dir=tmp_path)
    np.testing.assert_array_equal(again.tokens, features.tokens)
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}


def test_raw_patches_are_the_pixels(rng):
    ((images, labels),) = batches(rng, sizes=(1,))
    tokens = extract_patch_features(RawPatches(4), [(images, labels)]).tokens
    np.testing.assert_array_equal(tokens[0, 1], images[0, :4, 4:8].ravel())


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (lambda images: np.zeros((len(images), 5, 4)), "one token per square patch of its 8 x 12 images.*Received: 4"),
        (lambda images: np.zeros((len(images), 4)), r"must return \(batch, 1 \+ patches, width\). Received: shape"),
    ],
)
def test_encoders_without_spatial_tokens_are_refused(encoder, message, rng):
    with pytest.raises(ValueError, match=message):
        extract_patch_features(encoder, batches(rng))


@pytest.mark.one_backend
def test_malformed_batches_are_refused(rng):
    encoder = RawPatches(4)
    with pytest.raises(ValueError, match="images of one size, at most 2 per batch"):
        extract_patch_features(encoder, batches(rng, sizes=(2, 3)))
    with pytest.raises(ValueError, match="Received: none"):
        extract_patch_features(encoder, [])
    images, labels = next(batches(rng))
    with pytest.raises(ValueError, match="one annotation per image. Received: 2 for 3"):
        extract_patch_features(encoder, [(images, labels[:2])])


@pytest.mark.one_backend
def test_the_grid_follows_from_the_number_of_patches():
    assert grid_of((224, 224), 196) == (14, 14)
    assert grid_of((360, 480), 45 * 60) == (45, 60)
    with pytest.raises(ValueError, match="Received: 7 tokens"):
        grid_of((8, 8), 7)
