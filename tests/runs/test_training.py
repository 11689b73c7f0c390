"""Rolling back and giving up, on a model small enough to watch."""

import itertools

import keras
import numpy as np
import pytest

from keras_siamim.recipes import Recipe
from keras_siamim.runs.checkpoint_files import CheckpointFiles
from keras_siamim.runs.exact_checkpoint import ExactCheckpoint
from keras_siamim.runs.plan import Stage
from keras_siamim.runs.training import TrainingFailed, resume, train

EPOCHS, BATCHES = 2, 6


class SkipFrom(keras.callbacks.Callback):
    """Counts steps as skipped from a batch on, as a model whose numbers are not finite does, in some data orders."""

    def __init__(self, batch, orders, checkpoint):
        super().__init__()
        self.batch, self.orders, self.checkpoint = batch, orders, checkpoint

    def on_train_batch_end(self, batch, logs=None):
        place = self.checkpoint.place
        bad = place.order in self.orders and place.batches + 1 >= self.batch
        logs["skipped_in_a_row"] = place.batches + 2 - self.batch if bad else 0


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    return model


@pytest.fixture
def run(model, tmp_path):
    """Function that trains with skipped steps; gives the places that data was asked for, and what was told."""
    recipe = Recipe(epochs=EPOCHS, warmup_epochs=0, batch_size=1, base_learning_rate=1.0)

    def run(batch=5, orders=(), save_every=3, **arguments):
        places, told = [], []

        def batches_from(place):
            places.append((place.order, place.batches))
            return ((np.full((1, 3), place.order + n), np.ones((1, 1))) for n in itertools.count(place.batches))

        checkpoint = ExactCheckpoint(CheckpointFiles(tmp_path), BATCHES, save_every, background=False)
        resume(model, Stage(0, 0, recipe), checkpoint, told.append)
        skip = SkipFrom(batch, orders, checkpoint)
        try:
            train(model, batches_from, checkpoint, EPOCHS, [skip], 2, report=told.append, verbose=0, **arguments)
        except TrainingFailed as error:
            told.append(str(error))
        return places, told, checkpoint

    return run


def test_a_run_without_trouble_trains_straight_on(run):
    places, told, checkpoint = run()
    assert places == [(0, 0)]
    assert told == []
    assert checkpoint.place.batches == EPOCHS * BATCHES


def test_a_finished_run_has_nothing_left_to_train(run):
    run()
    places, _, _ = run()
    assert places == []


def test_diverged_numbers_go_back_to_the_last_good_checkpoint_with_another_order(run):
    places, told, checkpoint = run(orders=[0])
    assert places == [(0, 0), (1, 3), (1, 6)]  # batch 3 is inside an epoch: its rest comes first
    assert "2 steps in a row" in told[0]
    assert "checkpoint at batch 3" in told[0]
    assert checkpoint.place.batches == EPOCHS * BATCHES
    assert checkpoint.place.order == 1


def test_a_second_time_at_the_same_place_goes_further_back(run):
    places, told, _ = run(orders=[0, 1])
    assert places == [(0, 0), (1, 3), (1, 6), (2, 0)]
    assert "checkpoint at batch 0" in told[1]


def test_after_two_the_run_stops_and_says_why(run, monkeypatch):
    monkeypatch.setattr("keras_siamim.runs.training.first_bad_tensor", lambda model, batch: f"{len(batch)}")
    _, told, _ = run(orders=[0, 1, 2])
    assert len(told) == 3
    assert "after rolling back" in told[2]


def test_a_run_whose_checkpoints_are_all_damaged_is_refused_at_every_start(run, model, tmp_path):
    checkpoint = run()[2]
    for path in checkpoint.files.paths():
        (path / "manifest.json").write_text("{")
    recipe = Recipe(epochs=EPOCHS, warmup_epochs=0, batch_size=1, base_learning_rate=1.0)
    for _ in range(2):
        with pytest.raises(ValueError, match="must hold an intact checkpoint. Received: damaged ones only"):
            resume(model, Stage(0, 0, recipe), ExactCheckpoint(CheckpointFiles(tmp_path), BATCHES), lambda line: None)
