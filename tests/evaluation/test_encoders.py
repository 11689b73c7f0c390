import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_siamim.evaluation.encoders import SavedModelEncoder
from keras_siamim.evaluation.features import extract_features
from keras_siamim.presets import load_encoder
from tests.evaluation.stand_in import PatchMeans, batches_of, make_encoder, make_images

IMAGES, LABELS = make_images(10)


class TwoTokens(tf.Module):
    """Stand-in for an exported encoder: images in, tokens out."""

    def __init__(self, factor):
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32)])
    def tokens(self, images):
        return {"tokens": self.factor * tf.reshape(images, (-1, 2, 96))}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32)])
    def scalars(self, values):
        return {"values": values}


def export(path, factor=2.0, signature="tokens"):
    module = TwoTokens(factor)
    tf.saved_model.save(module, str(path), signatures={"serving_default": getattr(module, signature)})
    return path


def test_a_keras_file_gives_the_same_features(tmp_path):
    encoder = make_encoder()
    encoder.save(tmp_path / "encoder.keras")

    for path in (tmp_path / "encoder.keras", tmp_path):
        loaded = load_encoder(path)
        assert isinstance(loaded, PatchMeans)
        np.testing.assert_allclose(
            extract_features(loaded, [(IMAGES, LABELS)]).mean,
            extract_features(encoder, [(IMAGES, LABELS)]).mean,
            atol=1e-6,
        )


@keras.saving.register_keras_serializable(package="keras_siamim_tests")
class Holder(keras.Model):
    """Like an objective: the encoder is an attribute."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.encoder = PatchMeans()

    def call(self, images):
        return self.encoder(images)


def test_the_encoder_of_an_objective_is_loaded(tmp_path):
    holder = Holder()
    holder(IMAGES)
    holder.save(tmp_path / "model.keras")

    loaded = load_encoder(tmp_path)

    assert isinstance(loaded, PatchMeans)
    np.testing.assert_array_equal(loaded.get_weights()[0], holder.encoder.get_weights()[0])


def test_a_saved_model_and_its_latest_version_are_callable_on_any_backend(tmp_path):
    export(tmp_path / "1", 1.0)
    export(tmp_path / "10", 2.0)

    encoder = load_encoder(tmp_path)

    features = extract_features(encoder, batches_of(IMAGES, LABELS, 4), tmp_path / "cache")
    np.testing.assert_allclose(features.token, 2 * IMAGES.reshape(10, 2, 96)[:, 0], atol=1e-6)
    assert encoder.image_size == (8, 8)
    assert encoder.fingerprint == SavedModelEncoder(tmp_path / "10").fingerprint
    assert encoder.fingerprint != SavedModelEncoder(tmp_path / "1").fingerprint


def test_paths_without_an_encoder_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`path` must exist"):
        load_encoder(tmp_path / "nothing")
    with pytest.raises(ValueError, match="must be a .keras file, a SavedModel"):
        load_encoder(tmp_path)
    with pytest.raises(ValueError, match="must have a signature from one float32 tensor"):
        load_encoder(export(tmp_path / "1", signature="scalars"))
