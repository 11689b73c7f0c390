"""The paper's linear probe: a frozen encoder, BatchNorm without affine, one dense layer, LARS.

The recipe of Masked Autoencoders (He et al., CVPR 2022, arXiv 2111.06377, appendix A.1, table 10), which the paper
(arXiv 2206.01204) follows: LARS without weight decay, 0.1 x batch / 256 at a batch of 16,384, 90 epochs, 10 of warm-up.
"""

import contextlib

import keras
import numpy as np

from keras_siamim.evaluation.checks import check_labels
from keras_siamim.evaluation.features import check_pooling
from keras_siamim.evaluation.logits import predict_logits, top1
from keras_siamim.evaluation.result import EvaluationResult, stopwatch
from keras_siamim.optimizers import LARS
from keras_siamim.schedules import scaled_learning_rate, warmup_cosine

_MOMENTUM, _TRUST = 0.9, 0.001  # of LARS


class ShuffledBatches(keras.utils.PyDataset):
    """Arrays as batches of one size in a new, seeded order every epoch; the rest of an epoch is dropped.

    Args:
        inputs: (images, ...) array.
        labels: (images,) array.
        batch_size: 1...images.
        seed: of the orders.
    """

    def __init__(self, inputs, labels, batch_size, seed=0):
        super().__init__()
        self.inputs, self.labels, self.batch_size = inputs, labels, batch_size
        self.random = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return len(self.labels) // self.batch_size

    def __getitem__(self, index):
        ids = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.inputs[ids], self.labels[ids]

    def on_epoch_end(self):
        """Draw the order of the next epoch."""
        self.order = self.random.permutation(len(self.labels))


def build_probe(input_shape, num_classes: int, encoder=None, pooling: str = "mean", seed: int = 0) -> keras.Model:
    """Return the probe: (encoder and pooling,) BatchNorm without affine, dense.

    Args:
        input_shape: (height, width, 3) of the images or, without an encoder, (width,) of the features.
        num_classes: number of classes.
        encoder: a Keras model that gives tokens, run in inference mode; `None` if the inputs are features.
        pooling: `"mean"` of the patch tokens, or the class `"token"`.
        seed: of the dense kernel, N(0, 0.01^2).
    """
    check_pooling(pooling)
    inputs = x = keras.Input(input_shape)
    if encoder is not None:
        tokens = encoder(inputs, training=False)
        x = tokens[:, 0] if pooling == "token" else keras.layers.GlobalAveragePooling1D(dtype="float32")(tokens[:, 1:])
    x = keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-6, center=False, scale=False, dtype="float32", name="probe_norm"
    )(x)
    head = keras.layers.Dense(num_classes, dtype="float32", name="probe")
    model = keras.Model(inputs, head(x))
    # Drawn by NumPy: one seed, one probe on every backend.
    head.kernel.assign(np.random.default_rng(seed).normal(0, 0.01, head.kernel.shape).astype("float32"))
    return model


@contextlib.contextmanager
def _frozen(encoder):
    """Keep an encoder's weights from training inside the `with`, and restore each one's flag after it."""
    flags = [(variable, variable.trainable) for variable in (encoder.variables if encoder is not None else ())]
    for variable, _ in flags:
        variable.trainable = False
    try:
        yield
    finally:
        for variable, flag in flags:
            variable.trainable = flag


def linear_probe(
    train,
    test,
    num_classes: int,
    encoder=None,
    pooling: str = "mean",
    batch_size: int = 16_384,
    base_learning_rate: float = 0.1,
    epochs: int = 90,
    warmup_epochs: int = 10,
    seed: int = 0,
    verbose: int = 0,
) -> EvaluationResult:
    """Train the probe by the paper's recipe and measure it on the test split after the last epoch.

    Args:
        train: (inputs, labels) arrays, or a data set (`tf.data.Dataset`, `PyDataset`) of such batches that knows its
            length. Inputs are augmented images, or features if there is no encoder. Of arrays, the images left over by
            an epoch's last whole batch are dropped, as in the paper's program.
        test: (inputs, labels) arrays, or batches of them, not augmented.
        num_classes: number of classes, 2 or more.
        encoder: frozen Keras model from images to tokens; `None` where the inputs are features.
        pooling: `"mean"` of the patch tokens, or the class `"token"`; used with an encoder.
        batch_size: images a step. It sets the learning rate, so for a data set it must be that of its batches. Arrays
            with fewer images reduce it to their number, and a note says so.
        base_learning_rate: per 256 images.
        epochs: passes over the train split.
        warmup_epochs: of linear warm-up, fewer than `epochs`.
        seed: of the initial kernel and, with arrays, of the orders.
        verbose: as in `fit`.

    Returns:
        An `EvaluationResult` with `top1` and `train_loss`, that of the last epoch.

    Raises:
        ValueError: if labels are out of range, the split is empty, or a setting is out of its range.
    """
    if num_classes < 2:
        raise ValueError(f"`num_classes` must be 2 or more; received {num_classes}.")
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(f"`warmup_epochs` must be 0 or more and below `epochs`, {epochs}; received {warmup_epochs}.")
    notes = []
    if isinstance(train, tuple | list):
        inputs = np.asarray(train[0], "float32")
        if not len(inputs) or not np.isfinite(inputs).all():
            raise ValueError("`train` must hold finite inputs, one or more; received an empty split, NaN or infinity.")
        labels = check_labels(train[1], len(inputs), "train labels", num_classes)
        if len(inputs) < batch_size:
            notes.append(f"The batch of {batch_size} was reduced to {len(inputs)}, the number of training images.")
            batch_size = len(inputs)
        train = ShuffledBatches(inputs, labels, batch_size, seed)
    if isinstance(test, tuple | list) and isinstance(test[0], np.ndarray):
        test = [tuple(part[i : i + 1024] for part in test) for i in range(0, len(test[1]), 1024)]
    steps = len(train)
    if not steps:
        raise ValueError(f"`train` must yield at least one batch of {batch_size}; it yields none.")
    peak = scaled_learning_rate(base_learning_rate, batch_size)
    travel = 0.5 * peak * epochs * steps * _TRUST / (1 - _MOMENTUM)
    if travel < 3:
        notes.append(
            f"Trained too little: the recipe is made for ImageNet's size; on {steps * batch_size} images LARS can move "
            f"the weights by only {travel:.2g} times their norm; raise the epochs or the base learning rate."
        )
    with stopwatch() as seconds, _frozen(encoder):
        shape = next(iter(test))[0].shape[1:]
        model = build_probe(tuple(shape), num_classes, encoder, pooling, seed)
        model.compile(
            optimizer=LARS(warmup_cosine(peak, warmup_epochs * steps, epochs * steps), _MOMENTUM, _TRUST),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        history = model.fit(train, epochs=epochs, shuffle=False, verbose=verbose)
        logits, labels = predict_logits(model, test)
    check_labels(labels, len(labels), "test labels", num_classes)
    return EvaluationResult(
        protocol="linear_probe",
        numbers={"top1": top1(logits, labels), "train_loss": float(history.history["loss"][-1])},
        settings={
            "batch_size": batch_size,
            "base_learning_rate": base_learning_rate,
            "learning_rate": peak,
            "epochs": epochs,
            "warmup_epochs": warmup_epochs,
            "inputs": "features" if encoder is None else "images",
        },
        data={"train_images_an_epoch": steps * batch_size, "test_images": len(labels), "classes": num_classes},
        seed=seed,
        seconds=seconds(),
        notes=tuple(notes),
    )
