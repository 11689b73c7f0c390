"""Training with all observing callbacks equals training without them, bit by bit."""

import random

import keras
import numpy as np
import pytest

from keras_siamim import AdamW, SiameseIM, warmup_cosine
from keras_siamim.callbacks import (
    FeatureHealth,
    LabeledSplits,
    LiveEncoder,
    LogLine,
    LogSchedules,
    OnlineKNN,
    OnlineProbe,
    ReferenceCurve,
)
from keras_siamim.callbacks.reference_curve import band_of_losses
from tests.nano import IMAGE_SIZE, nano_batch, nano_encoder

IMAGES = np.random.default_rng(0).normal(size=(12, *IMAGE_SIZE, 3)).astype("float32")
LABELS = np.arange(12) % 2
EPOCHS, STEPS = 2, 3


def observers(lines):
    encoder = LiveEncoder(batch_size=12)
    splits = LabeledSplits((IMAGES, LABELS), (IMAGES, LABELS), encoder)
    return [
        LogSchedules(),
        OnlineKNN(splits, k=3, report=lines.append),
        OnlineProbe(splits, report=lines.append),
        FeatureHealth(np.stack([IMAGES, IMAGES[::-1]]), every_steps=2, encoder=encoder, report=lines.append),
        ReferenceCurve(band_of_losses([[1.0, 0.5], [1.1, 0.6]]), report=None),
        LogLine(report=lines.append),
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
def both():
    lines = []
    return train([]), train(observers(lines)), lines


def test_every_variable_is_bit_identical(both):
    (alone, _, generators), (observed, _, generators_observed), _ = both
    assert len(alone) == len(observed)
    assert all(np.array_equal(a, b) for a, b in zip(alone, observed, strict=True))
    assert generators == generators_observed


def test_every_logged_loss_is_bit_identical(both):
    (_, alone, _), (_, observed, _), _ = both
    assert {name: observed[name] for name in alone} == alone


def test_the_observers_measured_and_said_nothing_but_one_line_per_epoch(both):
    _, (_, observed, _), lines = both
    names = {"knn", "probe", "rank", "spread", "dead_channels", "same_image", "learning_rate", "reference_low"}
    assert names <= set(observed)
    assert all(len(observed[name]) == EPOCHS for name in names)
    assert [line.split(" · ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert " · k-NN " in lines[0]
