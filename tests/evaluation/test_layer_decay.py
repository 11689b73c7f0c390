import keras
import numpy as np
import pytest

from keras_siamim import AdamW, ViTEncoder
from keras_siamim.evaluation.classifier import Classifier
from keras_siamim.evaluation.layer_decay import LayerDecayAdamW
from tests.evaluation.reference_classifier import RECORDED, recorded_classifier, recorded_name


def scales_and_decays(classifier, optimizer):
    """What one step does to each weight of one: its relative rate, and its decay once that rate is divided out."""
    found = {}
    for weight in classifier.trainable_variables:
        scale = optimizer.learning_rate_scale(weight)
        start = keras.ops.convert_to_numpy(weight).copy()
        optimizer.update_step(keras.ops.zeros(weight.shape), weight, optimizer.learning_rate)  # a step of decay alone
        moved = start - keras.ops.convert_to_numpy(weight)
        shrunk = float(np.median(moved[start != 0] / start[start != 0])) if (start != 0).any() else 0.0
        found[recorded_name(weight.path)] = (scale, shrunk / scale)
    return found


def test_rates_and_decays_of_every_weight_equal_the_recorded_ones():
    classifier = recorded_classifier()
    optimizer = LayerDecayAdamW(1.0, depth=3, layer_decay=float(RECORDED["layer_decay"]), weight_decay=0.05)
    optimizer.build(classifier.trainable_variables)

    found = scales_and_decays(classifier, optimizer)

    recorded = {key.partition("/")[2] for key in RECORDED.files if key.startswith("lr_scale/")}
    assert found.keys() == recorded
    for name, (scale, decay) in found.items():
        assert scale == pytest.approx(float(RECORDED[f"lr_scale/{name}"]), rel=1e-9), name
        assert decay == pytest.approx(float(RECORDED[f"weight_decay/{name}"]), rel=1e-3), name


def small_classifier():
    keras.utils.set_random_seed(0)
    encoder = ViTEncoder(image_size=8, patch_size=4, width=8, depth=2, num_heads=2)
    classifier = Classifier(encoder, 3, head_stddev=0.1)
    classifier.compile(
        optimizer=LayerDecayAdamW(0.01, depth=2, layer_decay=0.5, weight_decay=0.5),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return classifier


IMAGES = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype("float32")
LABELS = np.arange(6) % 3


def test_after_saving_and_loading_the_next_step_is_the_same_step(tmp_path):
    classifier = small_classifier()
    classifier.train_on_batch(IMAGES, LABELS)
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.saving.load_model(tmp_path / "classifier.keras")

    for model in (classifier, loaded):
        model.train_on_batch(IMAGES, LABELS)

    assert isinstance(loaded.optimizer, LayerDecayAdamW)
    assert loaded.optimizer.get_config() == classifier.optimizer.get_config()
    for ours, theirs in zip(classifier.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_step_is_that_of_adamw_times_the_scale():
    steps = {}
    for decay in (1.0, 0.5):
        classifier = small_classifier()
        kernel = classifier.encoder.blocks[0].mlp.expand.kernel
        before = keras.ops.convert_to_numpy(kernel)
        classifier.optimizer = LayerDecayAdamW(0.01, depth=2, layer_decay=decay, weight_decay=0.0)
        classifier.train_on_batch(IMAGES, LABELS)
        steps[decay] = keras.ops.convert_to_numpy(kernel) - before

    np.testing.assert_allclose(steps[0.5], 0.25 * steps[1.0], rtol=1e-3, atol=1e-7)
    assert issubclass(LayerDecayAdamW, AdamW)


@pytest.mark.parametrize("settings", [{"depth": 0}, {"layer_decay": 0.0}, {"layer_decay": 1.1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        LayerDecayAdamW(**settings)
