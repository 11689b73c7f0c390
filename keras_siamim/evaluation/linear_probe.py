"""Trained linear probe of the paper: a frozen encoder, BatchNorm without affine, one dense layer, LARS.

The recipe of Masked Autoencoders (He et al., CVPR 2022, arXiv 2111.06377, appendix A.1, table 10), which the paper
(arXiv 2206.01204) follows: LARS without weight decay, learning rate 0.1 x batch / 256, batch 16,384, 90 epochs of which
10 are warm-up.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_siamim.evaluation.checks import check_labels, first_batch
from keras_siamim.evaluation.features import in_data_format_of
from keras_siamim.evaluation.logits import predict_logits, top1
from keras_siamim.evaluation.result import EvaluationResult, stopwatch
from keras_siamim.ops.pooling import check_pooling, num_prefix_tokens, pool_tokens
from keras_siamim.optimizers import LARS
from keras_siamim.schedules import scaled_learning_rate, warmup_cosine
from keras_siamim.types import ArrayLike

_MOMENTUM, _TRUST = 0.9, 0.001  # of LARS


class ShuffledBatches(keras.utils.PyDataset):
    """Data set of equal batches from arrays, in a new, seeded order per epoch.

    The last, incomplete batch of an epoch is dropped.

    Args:
        inputs: (images, ...) array.
        labels: (images, ...) array.
        batch_size: Integer in [1, images]. Images per batch.
        seed: Integer. Seed of the orders. Defaults to 0.

    Example:
        >>> batches = ShuffledBatches(np.zeros((5, 3)), np.arange(5), batch_size=2)
        >>> len(batches), batches[0][0].shape
        (2, (2, 3))
    """

    def __init__(self, inputs: np.ndarray, labels: np.ndarray, batch_size: int, seed: int = 0):
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


def in_batches(split: Any, batch_size: int = 1024) -> Any:
    """Return a split as an iterable of batches.

    Args:
        split: Tuple (inputs, labels) of NumPy arrays, or an iterable of such batches, which is returned unchanged.
        batch_size: Integer. Rows per batch of arrays. Defaults to 1024.

    Example:
        >>> [len(labels) for _, labels in in_batches((np.zeros((5, 3)), np.arange(5)), batch_size=4)]
        [4, 1]
    """
    if isinstance(split, tuple | list) and len(split) == 2 and isinstance(split[0], np.ndarray):
        return [tuple(part[i : i + batch_size] for part in split) for i in range(0, len(split[1]), batch_size)]
    return split


def build_probe(
    input_shape: tuple[int, ...],
    num_classes: int,
    encoder: keras.Model | None = None,
    pooling: str = "mean",
    seed: int = 0,
) -> keras.Model:
    """Create the probe: BatchNorm without affine and a dense layer, after the encoder and pooling if given.

    Args:
        input_shape: Tuple of integers. Shape (height, width, 3) of the images or, without an encoder, (width,) of the
            features.
        num_classes: Integer. Number of classes.
        encoder: `keras.Model` from images to tokens, which runs in inference mode, or `None` if the inputs are
            features. Defaults to `None`.
        pooling: `"mean"` of the patch tokens, or the class `"token"`. Defaults to `"mean"`.
        seed: Integer. Seed of the dense kernel, N(0, 0.01^2). Defaults to 0.

    Returns:
        A `keras.Model` from inputs to logits (batch, num_classes) float32.

    Raises:
        ValueError: If `pooling` is unknown.

    Example:
        >>> build_probe((8,), num_classes=3).output_shape
        (None, 3)
    """
    check_pooling(pooling)
    inputs = x = keras.Input(input_shape)
    if encoder is not None:
        # In half precision, a mean over many patches would lose digits.
        tokens = keras.ops.cast(encoder(in_data_format_of(encoder, inputs), training=False), "float32")
        x = pool_tokens(tokens, pooling, num_prefix_tokens(encoder))
    x = keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-6, center=False, scale=False, dtype="float32", name="probe_norm"
    )(x)
    head = keras.layers.Dense(num_classes, dtype="float32", name="probe")
    model = keras.Model(inputs, head(x))
    # NumPy draws the kernel, so that a seed gives the same probe on every backend.
    head.kernel.assign(np.random.default_rng(seed).normal(0, 0.01, head.kernel.shape).astype("float32"))
    return model


@contextlib.contextmanager
def frozen(encoder: keras.Model | None) -> Iterator[None]:
    """Freeze an encoder's variables inside the `with` block, and restore each variable's flag afterwards.

    Args:
        encoder: `keras.Model`, or `None` to do nothing.

    Example:
        >>> encoder = ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2)
        >>> with frozen(encoder):
        ...     len(encoder.trainable_variables)
        0
    """
    flags = [(variable, variable.trainable) for variable in (encoder.variables if encoder is not None else ())]
    for variable, _ in flags:
        variable.trainable = False
    try:
        yield
    finally:
        for variable, flag in flags:
            variable.trainable = flag


def linear_probe(
    train: tuple[ArrayLike, ArrayLike] | Iterable[tuple[ArrayLike, ArrayLike]],
    test: tuple[np.ndarray, np.ndarray] | Iterable[tuple[ArrayLike, ArrayLike]],
    num_classes: int,
    encoder: keras.Model | None = None,
    pooling: str = "mean",
    batch_size: int = 16_384,
    base_learning_rate: float = 0.1,
    epochs: int = 90,
    warmup_epochs: int = 10,
    seed: int = 0,
    verbose: int | str = 0,
) -> EvaluationResult:
    """Train the probe by the paper's recipe and evaluate it on the test split after the last epoch.

    Args:
        train: Tuple (inputs, labels) of arrays, or a `tf.data.Dataset` or `PyDataset` of such batches of known length.
            Inputs are augmented images, or features without an encoder. With arrays, the incomplete last batch of an
            epoch is dropped, as in the paper's program.
        test: Tuple (inputs, labels) of NumPy arrays, or an iterable of such batches, without augmentation.
        num_classes: Integer, 2 or more. Number of classes.
        encoder: `keras.Model` from images to tokens, which is frozen, or `None` if the inputs are features. Defaults
            to `None`.
        pooling: `"mean"` of the patch tokens, or the class `"token"`; used with an encoder. Defaults to `"mean"`.
        batch_size: Integer. Images per step; it scales the learning rate, so with a data set it must equal the size of
            its batches. With fewer images in the arrays it is reduced to their number, which a note reports. Defaults
            to 16,384.
        base_learning_rate: Float. Learning rate per 256 images. Defaults to 0.1.
        epochs: Integer. Passes over the train split. Defaults to 90.
        warmup_epochs: Integer in [0, epochs). Epochs of linear warm-up. Defaults to 10.
        seed: Integer. Seed of the initial kernel and, with arrays, of the order of the images. Defaults to 0.
        verbose: Integer or string. Verbosity, as in `fit`. Defaults to 0.

    Returns:
        An `EvaluationResult` with `top1`, and `train_loss` of the last epoch.

    Raises:
        ValueError: If labels are out of range, a split is empty, or a setting is out of its range.

    Example:
        >>> split = (np.eye(2, dtype="float32"), np.array([0, 1]))
        >>> result = linear_probe(split, split, num_classes=2, epochs=2, warmup_epochs=1)
        >>> sorted(result.numbers), result.settings["batch_size"]
        (['top1', 'train_loss'], 2)
    """
    if num_classes < 2:
        raise ValueError(f"`num_classes` must be 2 or more. Received: {num_classes}.")
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(f"`warmup_epochs` must be 0 or more and below `epochs`, {epochs}. Received: {warmup_epochs}.")
    notes = []
    if isinstance(train, tuple | list):
        inputs = np.asarray(train[0], "float32")
        if not len(inputs) or not np.isfinite(inputs).all():
            raise ValueError("`train` must hold one or more finite inputs. Received: an empty split, NaN or infinity.")
        labels = check_labels(train[1], len(inputs), "train labels", num_classes)
        if len(inputs) < batch_size:
            notes.append(f"The batch of {batch_size} was reduced to {len(inputs)}, the number of training images.")
            batch_size = len(inputs)
        train = ShuffledBatches(inputs, labels, batch_size, seed)
    steps = len(train)  # type: ignore[arg-type]  # both kinds of data set have a length
    if not steps:
        raise ValueError(f"`train` must yield at least one batch of {batch_size}. Received: none.")
    peak = scaled_learning_rate(base_learning_rate, batch_size)
    # Largest change of the weights relative to their norm: LARS moves them by rate * trust per step.
    max_change = 0.5 * peak * epochs * steps * _TRUST / (1 - _MOMENTUM)
    if max_change < 3:
        notes.append(
            f"Undertrained: the recipe is tuned for the size of ImageNet. On {steps * batch_size} images, LARS can "
            f"change the weights by only {max_change:.2g} times their norm. Increase the epochs or the base learning "
            "rate."
        )
    test_batches = in_batches(test)
    shape = first_batch(test_batches, "test")[0].shape[1:]
    with stopwatch() as seconds, frozen(encoder):
        model = build_probe(shape, num_classes, encoder, pooling, seed)
        model.compile(
            optimizer=LARS(warmup_cosine(peak, warmup_epochs * steps, epochs * steps), _MOMENTUM, _TRUST),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        history = model.fit(train, epochs=epochs, shuffle=False, verbose=verbose)
        logits, labels = predict_logits(model, test_batches)
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
        data={"train_images_per_epoch": steps * batch_size, "test_images": len(labels), "classes": num_classes},
        seed=seed,
        seconds=seconds(),
        notes=tuple(notes),
    )
