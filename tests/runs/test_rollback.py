"""Non-finite batches of an objective: steps are skipped, the run rolls back, and finally it stops."""

import itertools

import numpy as np
import pytest

from keras_siamim.recipes import Recipe
from keras_siamim.runs.checkpoint_files import CheckpointFiles
from keras_siamim.runs.exact_checkpoint import ExactCheckpoint
from keras_siamim.runs.plan import Stage
from keras_siamim.runs.training import TrainingFailed, resume, train
from tests.nano import compiled_nano_model, nano_batch

STAGE = Stage(0, 0, Recipe(epochs=2, warmup_epochs=0, batch_size=8, base_learning_rate=1.0))
BATCHES = 6


def test_non_finite_batches_are_skipped_then_reordered_then_reported(tmp_path):
    lines, checkpoint = [], ExactCheckpoint(CheckpointFiles(tmp_path), BATCHES, every_batches=2, background=False)
    model = compiled_nano_model()
    resume(model, STAGE.number, checkpoint)
    bad_orders, first_bad = {0}, 4

    def batches_from(progress):
        for number in itertools.count(progress.batches):
            batch = nano_batch(seed=number)
            if progress.order in bad_orders and number >= first_bad:
                batch["view_2"][0] = np.inf
            yield batch

    arguments = {"patience": 2, "report": lines.append, "verbose": 0}
    train(model, batches_from, checkpoint, STAGE.last_epoch, **arguments)
    assert len(lines) == 1
    assert f"checkpoint at batch {first_bad}" in lines[0]
    assert (checkpoint.progress.order, checkpoint.progress.batches) == (1, 2 * BATCHES)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())

    bad_orders, first_bad = {1, 2, 3}, 2 * BATCHES + 2
    with pytest.raises(TrainingFailed, match=r"The batch's 'view_2' has \d+ non-finite values"):
        train(model, batches_from, checkpoint, STAGE.last_epoch + 1, **arguments)
    assert len(lines) == 3
