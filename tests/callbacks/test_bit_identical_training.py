"""Training with all observing callbacks equals training without them, bit by bit."""

import random

import keras
import numpy as np
import pytest

from keras_siamim import AdamW, SiameseIM, warmup_cosine
from keras_siamim.callbacks import (
    FeatureHealth,
    Figures,
    LabeledSplits,
    LiveEncoder,
    LogLine,
    LogSchedules,
    OnlineKNN,
    OnlineProbe,
    ReferenceCurve,
)
from keras_siamim.callbacks.reference_curve import band_of_losses
from keras_siamim.visualization.model_figures import ModelFigures
from tests.nano import IMAGE_SIZE, nano_batch, nano_encoder

IMAGES = np.random.default_rng(0).normal(size=(12, *IMAGE_SIZE, 3)).astype("float32")
LABELS = np.arange(12) % 2
CROPS = np.stack([IMAGES, IMAGES + 0.01])
EPOCHS, STEPS = 2, 3


class HealthOfModel(FeatureHealth):
    """Health of encoder and target of the model that trains."""

    def on_train_begin(self, logs=None):
        self.encoders["target"] = LiveEncoder(self.model.target, batch_size=12)
        super().on_train_begin(logs)


class FiguresOfModel(Figures):
    """Figures of the model that trains."""

    def on_train_begin(self, logs=None):
        self.figures = ModelFigures(self.model, nano_batch(seed=99), drawn=2).figures()


def observers(lines, folder):
    encoder = LiveEncoder(batch_size=12)
    splits = LabeledSplits((IMAGES, LABELS), (IMAGES, LABELS), encoder)
    return [
        LogSchedules(),
        OnlineKNN(splits, k=3, report=lines.append),
        OnlineProbe(splits, report=lines.append),
        HealthOfModel(CROPS, every_steps=2, encoder=encoder, report=lines.append),
        FiguresOfModel(folder, {}, every_epochs=2, report=lines.append),
        ReferenceCurve(band_of_losses([[1.0, 0.5], [1.1, 0.6]]), report=None),
        LogLine(every_seconds=1e6, report=lines.append),
    ]


def train(callbacks):
    """Train with stochastic depth; return every variable, all logs, and the states of the global generators."""
    keras.utils.set_random_seed(5)
    model = SiameseIM(nano_encoder(drop_path_rate=0.5), decoder_width=16, decoder_heads=2, decoder_depth=1)
    model.compile(AdamW(warmup_cosine(1e-2, 2, 20), global_clipnorm=1.0))
    batches = ((nano_batch(seed=step),) for step in range(EPOCHS * STEPS))
    history = model.fit(
        batches, epochs=EPOCHS, steps_per_epoch=STEPS, shuffle=False, verbose=0, callbacks=callbacks
    ).history
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    generators = [random.getstate(), np.random.get_state()[1].tolist()]  # noqa: NPY002  Keras draws default seeds there
    return [keras.ops.convert_to_numpy(variable) for variable in variables], history, generators


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    lines, folder = [], tmp_path_factory.mktemp("figures")
    return train([]), train(observers(lines, folder)), lines, folder


def test_every_variable_is_bit_identical(both):
    (alone, _, generators), (observed, _, generators_observed), *_ = both
    assert len(alone) == len(observed)
    assert all(np.array_equal(a, b) for a, b in zip(alone, observed, strict=True))
    assert generators == generators_observed


def test_every_logged_loss_is_bit_identical(both):
    (_, alone, _), (_, observed, _), *_ = both
    assert {name: observed[name] for name in alone} == alone


def test_the_observers_measured_and_said_nothing_but_one_line_per_epoch(both):
    _, (_, observed, _), lines, folder = both
    names = {
        "knn",
        "probe",
        "rank",
        "spread",
        "dead_channels",
        "same_image",
        "target_rank",
        "learning_rate",
        "reference_low",
    }
    assert names <= set(observed)
    assert all(len(observed[name]) == EPOCHS for name in names)
    assert [line.split(" · ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert " · k-NN " in lines[0]
    assert {"retrieval", "image_retrieval"} <= set(observed)
    names = ("attention", "correspondence", "prediction", "token_pca")
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}-0002.png" for name in names]
