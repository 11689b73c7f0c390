import keras
import numpy as np
import pytest

from keras_siamim.evaluation.classifier import Classifier
from tests.evaluation.reference_classifier import RECORDED, recorded_classifier
from tests.evaluation.stand_in import make_encoder, make_images


def test_tokens_pooled_features_and_logits_equal_the_recorded_ones():
    classifier = recorded_classifier()

    tokens = classifier.encoder(RECORDED["images"])
    for ours, name in (
        (tokens, "features"),
        (classifier.pool(tokens), "pooled"),
        (classifier(RECORDED["images"]), "logits"),
    ):
        expected = RECORDED[name]
        np.testing.assert_allclose(keras.ops.convert_to_numpy(ours), expected, atol=1e-4 * np.abs(expected).max())


def test_a_classifier_accepts_any_token_encoder_and_can_be_saved(tmp_path):
    classifier = Classifier(make_encoder(), 3, pooling="token")
    images = make_images(4)[0]
    expected = keras.ops.convert_to_numpy(classifier(images))

    classifier.save(tmp_path / "classifier.keras")

    loaded = keras.saving.load_model(tmp_path / "classifier.keras")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(loaded(images)), expected, atol=1e-6)


def test_a_new_head_starts_from_almost_equal_logits():
    logits = keras.ops.convert_to_numpy(Classifier(make_encoder(), 3)(make_images(4)[0]))

    assert 0 < np.abs(logits).max() < 1e-3


@pytest.mark.parametrize("settings", [{"num_classes": 1}, {"num_classes": 3, "pooling": "max"}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=list(settings)[-1]):
        Classifier(make_encoder(), **settings)
