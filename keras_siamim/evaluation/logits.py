"""Logits and accuracy of a classifier over the batches of a split."""

from collections.abc import Callable, Iterable

import keras
import numpy as np

from keras_siamim.evaluation.features import check_batch, num_batches, run_padded
from keras_siamim.types import ArrayLike, Tensor


def predict_logits(
    classifier: keras.Model | Callable[[np.ndarray], Tensor],
    batches: Iterable[tuple[ArrayLike, ArrayLike]],
    verbose: int | str = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits and labels of a split.

    The first batch sets the batch size. Smaller batches are padded to it, and the logits of the padding are dropped.

    Args:
        classifier: `keras.Model`, or a callable on NumPy arrays, from inputs (batch, ...) to logits (batch, classes).
        batches: Iterable of (inputs, labels) with labels (batch,) integers.
        verbose: Integer or string. 1 shows a progress bar. Defaults to 0.

    Returns:
        Logits (images, classes) float32 and labels (images,) int64.

    Raises:
        ValueError: If there is no batch, or a batch is malformed or larger than the first.

    Example:
        >>> batches = [(np.eye(2), [0, 1]), (np.eye(2)[:1], [0])]
        >>> predict_logits(lambda x: 2 * x, batches)[0].shape
        (3, 2)
    """
    run = classifier.predict_on_batch if isinstance(classifier, keras.Model) else classifier
    progress = keras.utils.Progbar(num_batches(batches), verbose=verbose, unit_name="batch")
    logits, labels, batch_size = [], [], None
    for inputs, batch_labels in batches:
        inputs, batch_labels = np.asarray(inputs), np.asarray(batch_labels)
        batch_size = check_batch(inputs, batch_labels, batch_size)
        logits.append(run_padded(lambda x: (run(x),), inputs, batch_size)[0])
        labels.append(batch_labels.astype(np.int64))
        progress.add(1)
    if not labels:
        raise ValueError("`batches` must yield at least one batch. Received: none.")
    return np.concatenate(logits), np.concatenate(labels)


def top1(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the top-1 accuracy.

    Args:
        logits: (images, classes) floats.
        labels: (images,) integers.

    Returns:
        Float in [0, 1].

    Example:
        >>> top1(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
        0.5
    """
    return float(np.mean(np.argmax(logits, axis=1) == labels))
