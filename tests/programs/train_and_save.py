"""Train a nano model for two steps and save it: `python -m tests.programs.train_and_save PATH`.

Writes the model to `PATH.keras`, its state as a checkpoint to the folder `PATH`, and its outputs and next losses to
`PATH.npz`.
"""

import pathlib
import sys

import keras
import numpy as np

from keras_siamim.runs.checkpoint_files import CheckpointFiles, Progress
from keras_siamim.runs.training_state import training_state
from tests.nano import compiled_nano_model, nano_batch
from tests.programs import hide_tensorflow
from tests.test_across_backends import outputs_and_next_losses

hide_tensorflow()
keras.utils.set_random_seed(3)
model = compiled_nano_model()
for step in range(2):
    model.train_on_batch(nano_batch(seed=step))
CheckpointFiles(pathlib.Path(sys.argv[1])).write(Progress(batches=2), training_state(model))
model.save(f"{sys.argv[1]}.keras")
np.savez(f"{sys.argv[1]}.npz", **outputs_and_next_losses(keras.saving.load_model(f"{sys.argv[1]}.keras")))
