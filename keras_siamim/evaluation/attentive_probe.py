"""Attentive probe: a query that attends to the patch tokens of a frozen encoder, for a grid of learning settings.

The protocol of CAPI (Darcet et al., arXiv 2502.08769): all pairs of learning rate and weight decay are trained at once
on the same batches, and a held-out part of the *train* split selects one. Encoders of masked image modeling need such
a probe, since a mean over their patch tokens mixes foreground and background.
"""

from collections.abc import Iterable, Sequence

import keras
import numpy as np
from keras import ops

from keras_siamim.evaluation.attentive_heads import build_heads
from keras_siamim.evaluation.checks import check_labels, check_tokens, first_batch
from keras_siamim.evaluation.few_shot import hold_out
from keras_siamim.evaluation.linear_probe import ShuffledBatches, frozen, in_batches
from keras_siamim.evaluation.logits import predict_logits, top1
from keras_siamim.evaluation.result import EvaluationResult, stopwatch
from keras_siamim.optimizers import ParallelAdamW
from keras_siamim.schedules import warmup_cosine
from keras_siamim.types import ArrayLike, Tensor

LEARNING_RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
WEIGHT_DECAYS = (5e-4, 1e-3, 5e-2)
_BETA_1, _BETA_2 = 0.9, 0.95
_WARMUP_SHARE = 0.1
_IMAGENET_STEPS = 12_500


class EpochBatches(ShuffledBatches):
    """Batches of some images of a split, whose inputs are another array in each epoch.

    Args:
        epochs: Sequence of (images, ...) arrays, used in turn, one per epoch. It may load them when indexed.
        labels: (images,) integers.
        ids: (used,) integers. Indices of the images to use.
        batch_size: Integer in [1, used]. Images per batch.
        seed: Integer. Seed of the orders. Defaults to 0.

    Example:
        >>> batches = EpochBatches([np.zeros((4, 2))], np.arange(4), ids=np.array([1, 3]), batch_size=2)
        >>> sorted(batches[0][1].tolist())
        [1, 3]
    """

    def __init__(
        self, epochs: Sequence[np.ndarray], labels: np.ndarray, ids: np.ndarray, batch_size: int, seed: int = 0
    ):
        self.epochs, self.ids, self.epoch = epochs, ids, -1
        super().__init__(epochs[0], labels[ids], batch_size, seed)

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return np.asarray(self.inputs[self.ids[chosen]], "float32"), self.labels[chosen]

    def on_epoch_end(self):
        """Draw the order of the next epoch, and load its inputs."""
        super().on_epoch_end()
        self.epoch += 1
        if len(self.epochs) > 1:
            self.inputs = self.epochs[self.epoch % len(self.epochs)]


def _sum_of_losses(labels: Tensor, logits: Tensor) -> Tensor:
    # The sum over the probes, so that each gets the gradient of its own loss.
    labels = ops.broadcast_to(ops.cast(labels, "int32")[:, None], ops.shape(logits)[:2])
    return ops.sum(ops.sparse_categorical_crossentropy(labels, logits, from_logits=True), axis=1)


def attentive_probe(
    train: tuple[ArrayLike, ArrayLike] | Iterable[tuple[ArrayLike, ArrayLike]],
    test: tuple[np.ndarray, np.ndarray] | Iterable[tuple[ArrayLike, ArrayLike]],
    num_classes: int,
    encoder: keras.Model | None = None,
    augmented: Sequence[np.ndarray] | None = None,
    selection: tuple[np.ndarray, np.ndarray] | Iterable[tuple[ArrayLike, ArrayLike]] | None = None,
    learning_rates: Sequence[float] = LEARNING_RATES,
    weight_decays: Sequence[float] = WEIGHT_DECAYS,
    batch_size: int = 1024,
    epochs: int = 10,
    held_out: float = 0.1,
    seed: int = 0,
    verbose: int | str = 0,
) -> EvaluationResult:
    """Train attentive heads for all pairs of settings, and evaluate the pair that is best on held-out images.

    The heads train on patch tokens in one of three ways. The protocol augments by random resized crops and flips.

    - On arrays without augmentation, which a note reports: `train` is (tokens, labels).
    - On arrays with augmentation: `augmented` has one array of tokens per epoch, of the images of `train`. The tokens
      of `train` are those without augmentation, of which the held-out part selects the pair.
    - On a data set of augmented batches: `train` yields (images, labels) with `encoder`, or (tokens, labels).
      `selection` holds the images that select the pair, without augmentation; `few_shot.hold_out` draws them.

    Args:
        train: Tuple (tokens, labels) of arrays (images, patches, width) and (images,), or a `tf.data.Dataset` or
            `PyDataset` of known length. The incomplete last batch of an epoch of arrays is dropped.
        test: Tuple (inputs, labels) of NumPy arrays, or an iterable of such batches, without augmentation.
        num_classes: Integer, 2 or more. Number of classes.
        encoder: `keras.Model` from images to tokens, class token first, which is frozen, or `None` if the inputs are
            patch tokens. Other encoders (SavedModels) need tokens. Defaults to `None`.
        augmented: Sequence of (images, patches, width) arrays, which are used in turn, one per epoch, or `None`. It may
            load each array when it is indexed. Defaults to `None`.
        selection: Tuple or iterable like `test`, or `None` to hold out a part of the arrays. Defaults to `None`.
        learning_rates: Sequence of floats above 0. Peak learning rates. Defaults to `LEARNING_RATES`.
        weight_decays: Sequence of floats, 0 or more. Biases do not decay. Defaults to `WEIGHT_DECAYS`.
        batch_size: Integer, 1 or more. Images per step with arrays. With fewer images it is reduced to their number,
            which a note reports. Defaults to 1024.
        epochs: Integer, 1 or more. Passes over the train split. Defaults to 10.
        held_out: Float in (0, 1). Share of each class of the arrays that selects the pair. Defaults to 0.1.
        seed: Integer. Seed of the initial weights, the held-out part and, with arrays, the orders. Defaults to 0.
        verbose: Integer or string. Verbosity, as in `fit`; the loss is the sum over all pairs. Defaults to 0.

    Returns:
        An `EvaluationResult` with `top1`, and `top1_held_out`, `learning_rate` and `weight_decay` of the selected pair.
        Among equal pairs, the first in the order of `learning_rates`, then of `weight_decays`, is selected.

    Raises:
        ValueError: If tokens or labels are malformed, an argument is missing or out of its range, or there is no
            complete batch.

    Example:
        >>> tokens, labels = np.repeat(np.eye(2, 8), 10, axis=0)[:, None], np.repeat([0, 1], 10)
        >>> result = attentive_probe((tokens, labels), (tokens, labels), num_classes=2, epochs=20, batch_size=6)
        >>> result.numbers["top1"]
        1.0
    """
    _check_settings(num_classes, encoder, learning_rates, weight_decays, batch_size, epochs)
    pairs = [(rate, decay) for rate in learning_rates for decay in weight_decays]
    notes = []
    if isinstance(train, tuple | list):
        if encoder is not None:
            raise ValueError(
                "`train` must be a data set of batches of images if there is an encoder. Received: arrays. Without an "
                "encoder, arrays hold the tokens of the images."
            )
        tokens = check_tokens(train[0], "train tokens")
        labels = check_labels(train[1], len(tokens), "train labels", num_classes)
        ids = np.arange(len(labels))
        if selection is None:
            ids, held_out_ids = hold_out(labels, held_out, seed)
            selection = _Rows(tokens, labels, held_out_ids, batch_size)
        if len(ids) < batch_size:
            notes.append(f"The batch of {batch_size} was reduced to {len(ids)}, the number of training images.")
            batch_size = len(ids)
        if augmented is None:
            notes.append("Trained on features without augmentation, in place of random resized crops and flips.")
        elif not len(augmented) or any(np.shape(augmented[0])[axis] != tokens.shape[axis] for axis in range(3)):
            shape = np.shape(augmented[0]) if len(augmented) else ()
            raise ValueError(
                f"`augmented` must have arrays of the shape of the train tokens, {tokens.shape}. Received: {shape}."
            )
        train = EpochBatches([tokens] if augmented is None else augmented, labels, ids, batch_size, seed)
    elif selection is None:
        raise ValueError("`selection` must hold the images that select the settings of a data set. Received: None.")
    steps = len(train)  # type: ignore[arg-type]  # all kinds of data sets have a length
    if not steps:
        raise ValueError(f"`train` must yield at least one batch of {batch_size}. Received: none.")
    total = epochs * steps
    notes.append(f"{total:,} steps, {epochs} epochs of this data set, in place of {_IMAGENET_STEPS:,} on ImageNet.")
    selection, test_batches = in_batches(selection, batch_size), in_batches(test, batch_size)
    shape = first_batch(selection, "selection")[0].shape[1:]
    first_batch(test_batches, "test")  # before the training
    with stopwatch() as seconds, frozen(encoder):
        model = build_heads(shape, len(pairs), num_classes, encoder, seed)
        schedule = warmup_cosine(1.0, round(_WARMUP_SHARE * total) if total > 1 else 0, total)
        rates, decays = ([pair[part] for pair in pairs] for part in (0, 1))
        optimizer = ParallelAdamW(rates, decays, schedule, beta_1=_BETA_1, beta_2=_BETA_2)
        model.compile(optimizer=optimizer, loss=_sum_of_losses)
        model.fit(train, epochs=epochs, shuffle=False, verbose=verbose)
        scores = _accuracies(model, selection, num_classes)
        best = int(np.argmax(scores))
        chosen = build_heads(shape, 1, num_classes, encoder, seed)
        for target, source in zip(chosen.layers[-1].weights, model.layers[-1].weights, strict=True):
            target.assign(ops.convert_to_numpy(source)[best : best + 1])
        logits, test_labels = predict_logits(chosen, test_batches)
    check_labels(test_labels, len(test_labels), "test labels", num_classes)
    rate, decay = pairs[best]
    if len(learning_rates) > 1 and rate in (min(learning_rates), max(learning_rates)):
        notes.append(f"The best learning rate, {rate:g}, is at the edge of those tried.")
    return EvaluationResult(
        protocol="attentive_probe",
        numbers={
            "top1": top1(logits[:, 0], test_labels),
            "top1_held_out": float(scores[best]),
            "learning_rate": float(rate),
            "weight_decay": float(decay),
        },
        settings={
            "learning_rates": list(learning_rates),
            "weight_decays": list(weight_decays),
            "epochs": epochs,
            "steps": total,
            "batch_size": batch_size,
            "held_out": held_out,
            "inputs": "tokens" if encoder is None else "images",
        },
        data={"train_images_per_epoch": steps * batch_size, "test_images": len(test_labels), "classes": num_classes},
        seed=seed,
        seconds=seconds(),
        notes=tuple(notes),
    )


def _check_settings(num_classes, encoder, learning_rates, weight_decays, batch_size, epochs):
    if num_classes < 2:
        raise ValueError(f"`num_classes` must be 2 or more. Received: {num_classes}.")
    if encoder is not None and not isinstance(encoder, keras.Model):
        raise ValueError(
            f"`encoder` must be a keras.Model, or None with tokens as inputs. Received: {type(encoder).__name__}."
        )
    if not len(learning_rates) or not all(rate > 0 for rate in learning_rates):
        raise ValueError(f"`learning_rates` must be one or more values above 0. Received: {learning_rates}.")
    if not len(weight_decays) or not all(decay >= 0 for decay in weight_decays):
        raise ValueError(f"`weight_decays` must be one or more values of 0 or more. Received: {weight_decays}.")
    for name, value in (("batch_size", batch_size), ("epochs", epochs)):
        if value < 1:
            raise ValueError(f"`{name}` must be 1 or more. Received: {value}.")


class _Rows:
    """Batches of some rows of two arrays, which are copied one batch at a time."""

    def __init__(self, inputs, labels, ids, batch_size):
        self.inputs, self.labels, self.ids, self.batch_size = inputs, labels, ids, batch_size

    def __iter__(self):
        for start in range(0, len(self.ids), self.batch_size):
            ids = self.ids[start : start + self.batch_size]
            yield np.asarray(self.inputs[ids], "float32"), self.labels[ids]


def _accuracies(model, batches, num_classes):
    """Return the accuracy of each probe, in float64; the logits of one batch are in memory at a time."""
    correct, count = 0, 0
    for inputs, labels in batches:
        labels = check_labels(labels, len(inputs), "labels of `selection`", num_classes)
        logits = np.asarray(ops.convert_to_numpy(model.predict_on_batch(np.asarray(inputs))))
        correct = correct + np.sum(np.argmax(logits, axis=2) == labels[:, None], axis=0)
        count += len(labels)
    return correct / count
