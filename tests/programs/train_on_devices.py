"""Train nano models on many devices: `python -m tests.programs.train_on_devices FOLDER GROUP...`.

A group is one or more settings, separated by commas, of one process. A setting is a number of devices of this machine
(`2`; a number of processes on PyTorch, one setting per group), a number of devices with model parallelism (`4x2`), or
`workers` for two processes with one device each. Each objective takes five steps with global batches of
8 images, distributed to the workers as by `training_batches`. On more than one device there is a sixth batch with an
image of NaNs, which must be skipped. On two devices, SiameseIM trains again with callbacks that measure its features.
Writes `FOLDER/SETTING.npz`.
"""

import json
import os
import socket
import sys

import keras
import numpy as np

from keras_siamim import AdamW, CosineMomentum, SiameseIM, ViTEncoder, warmup_cosine
from keras_siamim._backend import mean_over_replicas
from keras_siamim.callbacks import FeatureHealth, LabeledSplits, OnlineKNN
from keras_siamim.detection import DetectorSettings, MaskRCNN
from keras_siamim.distribution import set_up
from keras_siamim.objectives import MAE, MoCoV3
from keras_siamim.segmentation import UPerNet
from tests.nano import IMAGE_SIZE, PATCH_SIZE, nano_batch
from tests.programs import hide_tensorflow

STEPS, BATCH, BAD = 5, 8, 2
BACKEND = keras.config.backend()


def encoder(**settings):
    """Create an encoder with one block, because most of the time is spent on compilation."""
    return ViTEncoder(IMAGE_SIZE, PATCH_SIZE, width=12, depth=1, num_heads=2, name="encoder", **settings)


decoder = {"decoder_width": 16, "decoder_heads": 2, "decoder_depth": 1}
momentum = {"target_momentum": CosineMomentum(0.9, 20)}


class NoisyMAE(MAE):
    """MAE that draws a random number per step and keeps the variance of these numbers over the replicas."""

    def build(self, input_shape=None):
        self.generator = keras.random.SeedGenerator(1)
        self.spread = self.add_weight(shape=(), initializer="zeros", trainable=False, name="spread")
        super().build(input_shape)

    def call(self, batch, training=False):
        number = keras.random.uniform((), seed=self.generator)
        self.spread.assign(mean_over_replicas(number**2) - mean_over_replicas(number) ** 2)
        return super().call(batch, training)


OBJECTIVES = {
    "SiameseIM": lambda: SiameseIM(encoder(), projector_depth=1, **decoder, **momentum),
    "MAE": lambda: NoisyMAE(encoder(final_norm=True), **decoder),
    "MoCoV3": lambda: MoCoV3(encoder(final_norm=True), projector_width=16, embedding_width=8, **momentum),
}
# Its BatchNorms and losses are the only ones over maps; two devices are enough to see that they span all replicas.
SEGMENTER, DENSE_SETTINGS = "UPerNet", ("1", "2")


def segmenter():
    """Create a UPerNet without random layers."""
    heads = {"head_width": 4, "auxiliary_width": 4, "taps": (1, 1, 1, 1), "pool_scales": (1, 2)}
    return UPerNet(encoder(), 3, crop_size=IMAGE_SIZE, drop_path_rate=0.0, dropout=0.0, **heads)


def segmented(batch):
    """Return the images of a batch and labels that depend on them, 255 for some pixels of most images."""
    images = batch["view_1"]
    return images, np.digitize(np.nan_to_num(images[..., 0]), [-0.5, 0.5, 2.0]).choose([0, 1, 2, 255]).astype("uint8")


class SampledAlike(MaskRCNN):
    """Detector that samples the anchors and regions of all images alike."""

    def draw(self, purpose, shape):
        numbers = np.random.default_rng(len(purpose)).uniform(size=shape[-1]).astype("float32")
        return keras.ops.broadcast_to(numbers, shape)


# PyTorch compiles nothing. On the other backends, `DETECTOR_TOO=1` trains the detector by hand.
DETECTOR, DETECTOR_TOO = "MaskRCNN", BACKEND == "torch" or "DETECTOR_TOO" in os.environ


def detector():
    """Create a small detector without random layers."""
    sizes = {"anchor_sizes": (4, 6, 8, 12, 16), "canonical_size": 8, "pyramid_width": 4, "head_width": 4}
    sizes |= {"dense_width": 8, "anchors_sampled": 16, "regions_sampled": 8, "pre_nms_train": 20, "post_nms_train": 10}
    settings = DetectorSettings(**sizes)
    return SampledAlike(encoder(), 2, IMAGE_SIZE, settings=settings, window_size=2, drop_path_rate=0.0, seed=0)


def detected(batch):
    """Return images with two objects each. Every replica gets the same images: each divides by its own counts."""
    count = len(batch["view_1"])
    images = np.random.default_rng(0).normal(size=(2, *IMAGE_SIZE, 3)).astype("float32")[[0, 0, 1, 1] * (count // 4)]
    images[np.isnan(batch["view_1"]).any(axis=(1, 2, 3))] = np.nan
    boxes = np.tile(np.array([[0, 0, 9, 7], [3, 4, 23, 16]], "float32"), (count, 1, 1))
    masks = np.zeros((count, 2, *IMAGE_SIZE), "uint8")
    masks[:, 0, :7, :9] = masks[:, 1, 6:16, 3:12] = 1
    sizes, classes = (np.tile(np.array(values, "int32"), (count, 1)) for values in (IMAGE_SIZE, (0, 1)))
    return {"images": images, "sizes": sizes, "boxes": boxes, "classes": classes, "masks": masks}


OBSERVED, OBSERVED_SETTING = "observed", "2"


def observers():
    """Return callbacks that run the encoder while it trains."""
    images = np.random.default_rng(1).normal(size=(2, 8, *IMAGE_SIZE, 3)).astype("float32")
    split = images[0], np.arange(8) % 2
    return [OnlineKNN(LabeledSplits(split, split), k=3), FeatureHealth(images, every_steps=2)]


def fit(model, batches, distribution, callbacks=()):
    """Train one epoch on these batches; return its logs."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        stacked = tf.nest.map_structure(lambda *values: np.stack(values), *batches)
        data = distribution.feed(tf.data.Dataset.from_tensor_slices(stacked))
    else:
        data = (batch if isinstance(batch, tuple) else (batch,) for batch in batches)
    return model.fit(data, steps_per_epoch=len(batches), shuffle=False, verbose=0, callbacks=[*callbacks]).history


def global_batches(with_bad_one):
    """Return five batches, or six with a bad one in the middle."""
    batches = [nano_batch(BATCH, seed) for seed in range(STEPS)]
    if with_bad_one:
        batches.insert(BAD, nano_batch(BATCH, 99))
        batches[BAD]["view_1"][-1] = np.nan  # on the last replica alone
    return batches


def train(setting, folder):
    """Train with the given setting; the first worker saves weights and logs."""
    devices, _, cut = setting.partition("x")
    distribution = set_up(None if setting == "workers" else int(devices), int(cut or 1))
    batches = [
        {key: value[distribution.worker :: distribution.workers] for key, value in batch.items()}
        for batch in global_batches(with_bad_one=distribution.replicas > 1)
    ]
    results = {"name": distribution.name}
    builders = OBJECTIVES if setting not in DENSE_SETTINGS else {**OBJECTIVES, SEGMENTER: segmenter}
    if setting in DENSE_SETTINGS and DETECTOR_TOO:
        builders = {**builders, DETECTOR: detector}
    if setting == OBSERVED_SETTING:
        builders = {**builders, OBSERVED: builders["SiameseIM"]}
    for name, build in builders.items():
        if cut and name == "MoCoV3":
            continue
        keras.utils.set_random_seed(3)
        with distribution.scope():
            model = build()
            # Gradient checkpointing must not change the results.
            model.gradient_checkpointing = name == "MAE" and distribution.replicas > 1
            # With a small epsilon, Adam would amplify rounding errors and hide gradients of the wrong scale.
            model.compile(AdamW(warmup_cosine(1e-2, 2, 20), epsilon=1e-3, global_clipnorm=0.5))
            convert = {SEGMENTER: segmented, DETECTOR: detected}.get(name, lambda batch: batch)
            callbacks = observers() if name == OBSERVED else ()
            logs = fit(model, [*map(convert, batches)], distribution, callbacks)
            results |= {f"{name}/logs/{key}": value for key, value in logs.items()}
            if name == "MAE":
                results["random/spread"] = keras.ops.convert_to_numpy(model.spread)
                results["random/state"] = keras.ops.convert_to_numpy(model.generator.state)
            for index, variable in enumerate(model.weights):
                if variable.name != "spread":
                    results[f"{name}/{index} {variable.name}"] = keras.ops.convert_to_numpy(variable)
    if distribution.is_first:
        np.savez(os.path.join(folder, setting), **results)


def addresses(count):
    """Return addresses of this machine that no process uses."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [f"127.0.0.1:{server.getsockname()[1]}" for server in servers]
    for server in servers:
        server.close()
    return found


def environments(settings):
    """Return the environment variables of each process of a group, as a launcher sets them."""
    if BACKEND == "torch":
        host, port = addresses(1)[0].split(":")
        common = {"MASTER_ADDR": host, "MASTER_PORT": port, "WORLD_SIZE": settings}
        return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(int(settings))]
    if settings != "workers":
        return [{"XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"}]
    workers = addresses(2)
    tasks = [{"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}} for rank in range(2)]
    common = {"JAX_COORDINATOR_ADDRESS": workers[0], "JAX_NUM_PROCESSES": "2"}
    return [{**common, "TF_CONFIG": json.dumps(tasks[rank]), "JAX_PROCESS_ID": str(rank)} for rank in range(2)]


def train_with_all(settings, folder):
    """Train with all settings of a group, one after the other."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        # It takes longer than it saves here.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        if settings != "workers":
            cpu = tf.config.list_physical_devices("CPU")[0]
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
    for setting in settings.split(","):
        train(setting, folder)


def main(folder, *groups):
    """Train with all groups at once, each in processes of its own."""
    hide_tensorflow()
    # Imports take longer than training. The forked processes share those of this one, which has not used the backend.
    processes = [(group, environment) for group in groups for environment in environments(group)]
    children = []
    for group, environment in processes:
        child = os.fork()
        if not child:
            os.environ |= environment
            train_with_all(group, folder)
            return
        children.append(child)
    failed = [group for (group, _), child in zip(processes, children, strict=True) if os.waitpid(child, 0)[1]]
    if failed:
        sys.exit(f"processes of {', '.join(failed)} failed")


if __name__ == "__main__":
    main(*sys.argv[1:])
