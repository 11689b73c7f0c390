"""A resumable run of a nano model, which `kill_test` interrupts."""

import itertools
import os

import keras
import numpy as np

from keras_siamim import AdamW, CosineMomentum, SiameseIM, warmup_cosine
from keras_siamim.recipes import Recipe
from keras_siamim.runs.checkpoint_files import CheckpointFiles
from keras_siamim.runs.exact_checkpoint import ExactCheckpoint, Preempted
from keras_siamim.runs.lock import FolderLock
from keras_siamim.runs.log import RunLog
from keras_siamim.runs.plan import Stage
from keras_siamim.runs.training import resume, train
from tests.nano import GRID, IMAGE_SIZE, nano_batch, nano_encoder
from tests.programs import hide_tensorflow

EPOCHS, BATCHES, BATCH_SIZE, SAVE_EVERY = 8, 25, 8, 3
STAGE = Stage(0, 0, Recipe(epochs=EPOCHS, warmup_epochs=1, batch_size=BATCH_SIZE, base_learning_rate=0.3))


class ReportBatches(keras.callbacks.Callback):
    """Send the number of finished batches through a pipe. Must come after the checkpoint callback."""

    def __init__(self, pipe, checkpoint):
        super().__init__()
        self.pipe, self.checkpoint = pipe, checkpoint

    def on_train_batch_begin(self, batch, logs=None):
        self.pipe.send(self.checkpoint.progress.batches)


def build_model():
    """Create SiameseIM with stochastic depth, so that the seed state matters."""
    model = SiameseIM(
        nano_encoder(drop_path_rate=0.5),
        decoder_width=16,
        decoder_heads=2,
        projector_depth=1,
        decoder_depth=1,
        target_momentum=CosineMomentum(0.9, EPOCHS * BATCHES),
    )
    model.compile(AdamW(warmup_cosine(1e-2, BATCHES, EPOCHS * BATCHES), global_clipnorm=1.0))
    return model


def random_batches_from(progress):
    """Return the random batches that follow some progress; quick to set up."""
    return (nano_batch(BATCH_SIZE, seed=1000 * progress.order + number) for number in itertools.count(progress.batches))


def image_batches_from(progress):
    """Return the batches of the real pipeline that follow some progress."""
    from keras_siamim.data.masking import Masking
    from keras_siamim.data.pipeline import training_batches
    from keras_siamim.data.sources import array_source
    from keras_siamim.data.views.paired_views import PairedViews

    pixels = np.random.default_rng(1).integers(0, 256, (BATCHES * BATCH_SIZE, 20, 28, 3)).astype("uint8")
    views, masking = PairedViews(IMAGE_SIZE, seed=7), Masking(GRID, num_masked=4, min_block=1)
    epoch, step = divmod(progress.batches, BATCHES)
    return training_batches(
        array_source(pixels),
        views,
        masking,
        batch_size=BATCH_SIZE,
        seed=7 + progress.order,
        start_epoch=epoch,
        start_step=step,
    )


def train_to_end(folder, pipe=None, images=False):
    """Resume the run in `folder` and train it to its end; exit with status 75 after SIGTERM."""
    batches_from = image_batches_from if images else random_batches_from
    if not images:
        hide_tensorflow()
    keras.utils.set_random_seed(7)
    with FolderLock(folder):
        model = build_model()
        checkpoint = ExactCheckpoint(CheckpointFiles(folder / "checkpoints"), BATCHES, every_batches=SAVE_EVERY)
        progress = resume(model, STAGE.number, checkpoint, report=lambda line: print(f"    {line}", flush=True))
        callbacks = [RunLog(folder)]
        if pipe is not None:
            pipe.send(progress.batches)
            callbacks.append(ReportBatches(pipe, checkpoint))
        try:
            train(model, batches_from, checkpoint, EPOCHS, callbacks, verbose=0)
        except Preempted:
            os._exit(os.EX_TEMPFAIL)
