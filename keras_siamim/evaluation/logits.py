"""Running a classifier over batches, for every protocol that judges one."""

from collections.abc import Iterable

import keras
import numpy as np

from keras_siamim.evaluation.features import check_batch, length, run_padded


def predict_logits(classifier, batches: Iterable, verbose: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits and labels of a split.

    The first batch sets the batch size; smaller ones are padded to it, and what belongs to the padding is dropped.

    Args:
        classifier: a Keras model, or a callable on NumPy arrays, from inputs (batch, ...) to logits (batch, classes).
        batches: yields (inputs, labels) with labels (batch,) integers.
        verbose: 1 shows a progress bar.

    Returns:
        Logits (images, classes) float32 and labels (images,) int64.

    Raises:
        ValueError: if there is no batch, or a batch is malformed or grows beyond the first.
    """
    run = classifier.predict_on_batch if isinstance(classifier, keras.Model) else classifier
    progress = keras.utils.Progbar(length(batches), verbose=verbose, unit_name="batch")
    logits, labels, batch_size = [], [], None
    for inputs, batch_labels in batches:
        inputs, batch_labels = np.asarray(inputs), np.asarray(batch_labels)
        batch_size = check_batch(inputs, batch_labels, batch_size)
        logits.append(run_padded(lambda x: (run(x),), inputs, batch_size)[0])
        labels.append(batch_labels.astype(np.int64))
        progress.add(1)
    if not labels:
        raise ValueError("`batches` must yield at least one batch; received none. Is the split empty?")
    return np.concatenate(logits), np.concatenate(labels)


def top1(logits, labels) -> float:
    """Return the share of rows of (images, classes) logits whose largest entry is the label's."""
    return float(np.mean(np.argmax(logits, axis=1) == labels))
