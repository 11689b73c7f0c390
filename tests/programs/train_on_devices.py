"""Train nano models on many devices: `python -m tests.programs.train_on_devices DEVICES FOLDER [MODEL_PARALLEL]`.

Each process gets the environment that a launcher would give it. All three objectives take five steps over global
batches of 8 images, dealt out to the workers as `training_batches` does it; the first worker writes the weights to
`FOLDER/OBJECTIVE.npz`.
"""

import pathlib
import sys

import keras

if keras.config.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1]))

import numpy as np

from keras_siamim import AdamW, warmup_cosine
from keras_siamim.distribution import set_up
from tests.nano import NANO_OBJECTIVES, nano_batch

STEPS, BATCH = 5, 8
distribution = set_up(model_parallel=int(sys.argv[3]) if len(sys.argv) > 3 else 1)
folder = pathlib.Path(sys.argv[2])


def part(step):
    """This worker's images of a global batch."""
    return {key: value[distribution.worker :: distribution.workers] for key, value in nano_batch(BATCH, step).items()}


def batches():
    """The batches of this worker, as `fit` takes them."""
    steps = [part(step) for step in range(STEPS)]
    if keras.config.backend() != "tensorflow":
        return {key: np.concatenate([batch[key] for batch in steps]) for key in steps[0]}
    joined = {key: np.stack([batch[key] for batch in steps]) for key in steps[0]}
    return distribution.feed(tf.data.Dataset.from_tensor_slices(joined))


for name, build in NANO_OBJECTIVES.items():
    keras.utils.set_random_seed(3)
    with distribution.scope():
        model = build()
        model.compile(AdamW(warmup_cosine(1e-3, 2, 20), global_clipnorm=1.0))
        history = model.fit(
            batches(),
            batch_size=distribution.worker_batch_size(BATCH) if keras.config.backend() != "tensorflow" else None,
            shuffle=False,
            verbose=0,
        )
        if distribution.is_first:
            weights = {
                variable.path.replace("/", "."): keras.ops.convert_to_numpy(variable) for variable in model.weights
            }
            np.savez(folder / f"{name}.npz", loss=history.history["loss"], **weights)
print(distribution.name)
