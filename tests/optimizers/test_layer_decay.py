import keras
import numpy as np
import pytest

from keras_siamim import AdamW, ViTEncoder
from keras_siamim.evaluation.classifier import Classifier
from keras_siamim.evaluation.fine_tuning import layer_rates
from keras_siamim.optimizers import LayerDecayAdamW
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


@keras.saving.register_keras_serializable(package="tests")
class Stages(keras.Model):
    """An encoder with layers under names of its own."""

    num_layers = 2

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stem = keras.layers.Conv2D(4, 4, 4, name="stem")
        self.stage = keras.layers.Dense(4, name="stage")

    def build(self, images_shape):
        self.stem.build(images_shape)
        self.stage.build((None, None, None, 4))

    def call(self, images):
        return keras.ops.reshape(self.stage(self.stem(images)), (-1, 4, 4))

    def layer_of(self, path):
        return 0 if "stem" in path else 1


def test_an_encoder_of_another_kind_tells_its_layers_and_keeps_them_when_loaded(tmp_path):
    classifier = Classifier(Stages(), 3)
    classifier.build((None, 8, 8, 3))
    classifier.compile(LayerDecayAdamW(0.1, **layer_rates(classifier, 0.5)), "mse")
    classifier.train_on_batch(IMAGES, np.zeros((6, 3), "float32"))
    classifier.save(tmp_path / "classifier.keras")
    for model in (classifier, keras.saving.load_model(tmp_path / "classifier.keras")):
        scales = {v.path.split("/", 1)[-1]: model.optimizer.learning_rate_scale(v) for v in model.trainable_variables}
        assert {scale for path, scale in scales.items() if "stem/" in path} == {0.25}
        assert {scale for path, scale in scales.items() if "stage/" in path} == {0.5}
        assert {scale for path, scale in scales.items() if "head" in path} == {1.0}


def test_an_encoder_that_can_not_tell_is_refused_unless_all_layers_learn_alike():
    images = keras.Input((8, 8, 3))
    tokens = keras.layers.Reshape((4, 4))(keras.layers.Conv2D(4, 4, 4)(images))
    classifier = Classifier(keras.Model(images, tokens), 3)
    with pytest.raises(ValueError, match="`layer_decay` must be 1 for an encoder that has no method `layer_of`"):
        layer_rates(classifier, 0.65)
    assert layer_rates(classifier, 1) == {"layer_decay": 1.0}
