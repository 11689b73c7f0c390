"""Rollback and failure on a minimal model."""

import itertools

import keras
import numpy as np
import pytest

from keras_siamim.runs.checkpoint_files import CheckpointFiles
from keras_siamim.runs.exact_checkpoint import ExactCheckpoint
from keras_siamim.runs.training import TrainingFailed, resume, train

EPOCHS, BATCHES = 2, 6


class SkipFrom(keras.callbacks.Callback):
    """Log steps as skipped from a batch on, in some data orders, like a model with non-finite values."""

    def __init__(self, batch, orders, checkpoint):
        super().__init__()
        self.batch, self.orders, self.checkpoint = batch, orders, checkpoint

    def on_train_batch_end(self, batch, logs=None):
        progress = self.checkpoint.progress
        bad = progress.order in self.orders and progress.batches + 1 >= self.batch
        logs["skipped_in_a_row"] = progress.batches + 2 - self.batch if bad else 0


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    return model


@pytest.fixture
def run(model, tmp_path):
    """Function that trains with skipped steps and returns (order, batches) of every dataset, and the reports."""

    def run(batch=5, orders=(), save_every=3, **arguments):
        starts, lines = [], []

        def batches_from(progress):
            starts.append((progress.order, progress.batches))
            return ((np.full((1, 3), progress.order + n), np.ones((1, 1))) for n in itertools.count(progress.batches))

        checkpoint = ExactCheckpoint(CheckpointFiles(tmp_path), BATCHES, save_every, background=False)
        resume(model, 0, checkpoint, lines.append)
        skip = SkipFrom(batch, orders, checkpoint)
        try:
            train(model, batches_from, checkpoint, EPOCHS, [skip], 2, report=lines.append, verbose=0, **arguments)
        except TrainingFailed as error:
            lines.append(str(error))
        return starts, lines, checkpoint

    return run


def test_a_finite_run_trains_without_interruption(run):
    starts, lines, checkpoint = run()
    assert starts == [(0, 0)]
    assert lines == []
    assert checkpoint.progress.batches == EPOCHS * BATCHES


def test_a_finished_run_is_not_trained_further(run):
    run()
    starts, _, _ = run()
    assert starts == []


def test_a_diverged_run_rolls_back_to_the_newest_checkpoint_with_another_order(run):
    starts, lines, checkpoint = run(orders=[0])
    assert starts == [(0, 0), (1, 3), (1, 6)]  # batch 3 is inside an epoch, so the rest of the epoch comes first
    assert "2 steps in a row" in lines[0]
    assert "checkpoint at batch 3" in lines[0]
    assert checkpoint.progress.batches == EPOCHS * BATCHES
    assert checkpoint.progress.order == 1


def test_a_second_divergence_at_the_same_batch_rolls_back_further(run):
    starts, lines, _ = run(orders=[0, 1])
    assert starts == [(0, 0), (1, 3), (1, 6), (2, 0)]
    assert "checkpoint at batch 0" in lines[1]


def test_after_two_rollbacks_the_run_stops_with_a_diagnosis(run, monkeypatch):
    monkeypatch.setattr("keras_siamim.runs.training.first_bad_tensor", lambda model, batch: f"{len(batch)}")
    _, lines, _ = run(orders=[0, 1, 2])
    assert len(lines) == 3
    assert "after rolling back" in lines[2]


def test_a_run_whose_checkpoints_are_all_damaged_is_refused_at_every_start(run, model, tmp_path):
    checkpoint = run()[2]
    for path in checkpoint.files.paths():
        (path / "manifest.json").write_text("{")
    for _ in range(2):
        with pytest.raises(ValueError, match="must have an intact file. Received: damaged files only"):
            resume(model, 0, ExactCheckpoint(CheckpointFiles(tmp_path), BATCHES), lambda line: None)
