import os
import time

import keras
import numpy as np
import pytest

from keras_siamim import ViTEncoder
from keras_siamim.evaluation.baselines import RawPixels, random_initialized
from keras_siamim.evaluation.classifier import Classifier
from keras_siamim.evaluation.features import extract_features, fingerprint
from keras_siamim.evaluation.fine_tuning import copy_to_train
from keras_siamim.evaluation.linear_probe import build_probe
from keras_siamim.evaluation.suite import PROTOCOLS
from keras_siamim.files import STAGING
from tests.evaluation.stand_in import PatchMeans, batches_of, make_encoder, make_images

IMAGES, LABELS = make_images(22)


def cached_files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_features_are_the_class_token_and_the_mean_of_the_patches():
    encoder = make_encoder()
    tokens = keras.ops.convert_to_numpy(encoder(IMAGES))

    features = extract_features(encoder, batches_of(IMAGES, LABELS, 8))

    np.testing.assert_allclose(features.pooled("token"), tokens[:, 0], atol=1e-6)
    np.testing.assert_allclose(features.pooled("mean"), tokens[:, 1:].mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(features.labels, LABELS)


def test_few_shot_sees_the_class_token_before_the_final_norm_and_fine_tuning_leaves_that_norm_out():
    encoder = ViTEncoder(image_size=8, patch_size=4, width=8, depth=2, num_heads=2, final_norm=True)
    encoder.norm.gamma.assign(np.linspace(1, 5, 8))
    last = keras.ops.convert_to_numpy(encoder.block_outputs(IMAGES)[-1])

    features = extract_features(encoder, batches_of(IMAGES, LABELS, 8))
    copy = copy_to_train(encoder, 0.0)

    np.testing.assert_allclose(features.pooled("unnormed_token"), last[:, 0], atol=1e-5)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(encoder.norm(last))[:, 0], features.token, atol=1e-5)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(copy(IMAGES)), last, atol=1e-5)
    assert PROTOCOLS["few_shot"] == "unnormed_token"


def test_the_size_of_the_last_batch_changes_nothing():
    encoder = make_encoder()
    at_once = extract_features(encoder, batches_of(IMAGES, LABELS, 22))

    for size in (4, 7, 21):
        np.testing.assert_allclose(
            extract_features(encoder, batches_of(IMAGES, LABELS, size)).mean, at_once.mean, atol=1e-6
        )


class Counting:
    """Callable encoder outside Keras that records the shapes of its batches."""

    def __init__(self, fingerprint="a", fail_at=None):
        self.fingerprint, self.fail_at, self.shapes = fingerprint, fail_at, []

    def __call__(self, images):
        if len(self.shapes) == self.fail_at:
            raise KeyboardInterrupt
        self.shapes.append(images.shape)
        return images.reshape(len(images), 8, -1)


def test_every_batch_has_one_shape_so_that_nothing_compiles_twice():
    encoder = Counting()

    extract_features(encoder, batches_of(IMAGES, LABELS, 8))

    assert encoder.shapes == [(8, 8, 8, 3)] * 3


def test_the_second_extraction_reads_the_cache(tmp_path):
    first = extract_features(Counting(), batches_of(IMAGES, LABELS, 8), tmp_path)
    again = Counting()

    second = extract_features(again, batches_of(IMAGES, LABELS, 8), tmp_path)

    assert again.shapes == []
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_interrupted_extraction_resumes(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        extract_features(Counting(fail_at=2), batches_of(IMAGES, LABELS, 8), tmp_path)
    encoder = Counting()

    features = extract_features(encoder, batches_of(IMAGES, LABELS, 8), tmp_path)

    assert len(encoder.shapes) == 1
    np.testing.assert_array_equal(features.mean, extract_features(Counting(), batches_of(IMAGES, LABELS, 8)).mean)


def test_other_pixels_or_another_encoder_miss_the_cache(tmp_path):
    extract_features(Counting("a"), batches_of(IMAGES, LABELS, 8), tmp_path)
    changed = IMAGES.copy()
    changed[0, 0, 0, 0] += 1e-3
    same, other = Counting("a"), Counting("b")

    extract_features(same, batches_of(changed, LABELS, 8), tmp_path)
    extract_features(other, batches_of(IMAGES, LABELS, 8), tmp_path)

    assert (len(same.shapes), len(other.shapes)) == (1, 3)


def test_a_damaged_cache_file_is_computed_again(tmp_path):
    expected = extract_features(Counting(), batches_of(IMAGES, LABELS, 8), tmp_path)
    damaged = cached_files(tmp_path)[0]
    damaged.write_bytes(damaged.read_bytes()[:100])

    np.testing.assert_array_equal(
        extract_features(Counting(), batches_of(IMAGES, LABELS, 8), tmp_path).mean, expected.mean
    )
    assert os.path.getsize(damaged) > 100


def test_fingerprints_follow_weights_and_configuration_but_not_names():
    encoder = make_encoder()
    twin = make_encoder()

    assert twin.name != encoder.name
    assert fingerprint(twin) == fingerprint(encoder)
    twin.dense.bias.assign_add(np.full(12, 1e-6, "float32"))
    assert fingerprint(twin) != fingerprint(encoder)
    assert fingerprint(RawPixels(8)) != fingerprint(RawPixels(4))


def test_raw_pixels_are_the_images_themselves():
    features = extract_features(RawPixels(), batches_of(IMAGES, LABELS, 8))

    np.testing.assert_allclose(features.token, IMAGES.reshape(22, -1), atol=1e-6)
    np.testing.assert_array_equal(features.token, features.mean)
    assert extract_features(RawPixels(4), batches_of(IMAGES, LABELS, 8)).token.shape == (22, 48)


def test_random_initialization_is_seeded_fresh_and_leaves_the_encoder_alone():
    encoder = make_encoder()
    before = [w.copy() for w in encoder.get_weights()]

    one, again, other = (random_initialized(encoder, (8, 8, 3), seed) for seed in (1, 1, 2))

    assert isinstance(one, PatchMeans)
    np.testing.assert_array_equal(one.get_weights()[0], again.get_weights()[0])
    assert np.abs(one.get_weights()[0] - other.get_weights()[0]).max() > 0.1
    assert np.abs(one.get_weights()[0] - before[0]).max() > 0.1
    np.testing.assert_array_equal(encoder.get_weights()[0], before[0])


@pytest.mark.parametrize(
    ("message", "batches"),
    [
        ("must yield at least one batch", []),
        ("float32, normalized", [((IMAGES * 255).astype("uint8"), LABELS)]),
        ("float32, normalized", [(IMAGES[..., :1], LABELS)]),
        ("one per image", [(IMAGES, LABELS[:3])]),
        ("size of the first batch, 2 images. Received: 3", [(IMAGES[:2], LABELS[:2]), (IMAGES[:3], LABELS[:3])]),
    ],
)
def test_malformed_batches_are_refused(message, batches):
    with pytest.raises(ValueError, match=message):
        extract_features(Counting(), batches)


def test_a_callable_without_tokens_or_fingerprint_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"1 \+ patches, width\)\. Received: shape \(22, 192\)"):
        extract_features(lambda images: images.reshape(len(images), -1), [(IMAGES, LABELS)])
    with pytest.raises(ValueError, match="`fingerprint`"):
        extract_features(lambda images: images, [(IMAGES, LABELS)], tmp_path)


@pytest.mark.one_backend
def test_a_cache_drops_the_staging_files_of_killed_processes(tmp_path):
    encoder = Counting()
    extract_features(encoder, [(IMAGES, LABELS)], tmp_path)
    folder = cached_files(tmp_path)[0].parent
    for name, age in (("old", 7200), ("new", 0)):
        path = folder / f"{STAGING}{name}"
        path.touch()
        os.utime(path, (time.time() - age,) * 2)

    extract_features(encoder, [(IMAGES, LABELS)], tmp_path)

    assert [path.name for path in cached_files(tmp_path) if path.name.startswith(STAGING)] == [f"{STAGING}new"]


def test_pooling_is_one_of_two():
    features = extract_features(Counting(), [(IMAGES, LABELS)])
    with pytest.raises(ValueError, match="`pooling` must be one of"):
        features.pooled("max")


@pytest.fixture
def both_data_formats():
    """Two encoders with the same weights, one with its channels last, one with its channels first."""
    sizes = {"image_size": (8, 12), "patch_size": 4, "width": 8, "depth": 1, "num_heads": 2}
    last, first = (ViTEncoder(**sizes, data_format=f"channels_{order}") for order in ("last", "first"))
    first.set_weights(last.get_weights())
    return last, first


def test_an_encoder_with_its_channels_first_sees_the_same_images(both_data_formats, rng):
    images = rng.normal(size=(3, 8, 12, 3)).astype("float32")
    last, first = (extract_features(encoder, [(images, np.arange(3))]).mean for encoder in both_data_formats)
    np.testing.assert_allclose(first, last, atol=1e-5)
    assert random_initialized(both_data_formats[1], (8, 12, 3)).data_format == "channels_first"


@pytest.mark.parametrize("build", [lambda encoder: build_probe((8, 12, 3), 3, encoder), lambda e: Classifier(e, 3)])
def test_a_head_on_an_encoder_with_its_channels_first_gives_the_same_logits(build, both_data_formats, rng):
    images = rng.normal(size=(3, 8, 12, 3)).astype("float32")
    logits = []
    for encoder in both_data_formats:
        keras.utils.set_random_seed(0)
        logits.append(keras.ops.convert_to_numpy(build(encoder)(images)))
    np.testing.assert_allclose(logits[1], logits[0], rtol=1e-4)
