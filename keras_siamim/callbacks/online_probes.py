"""Accuracies of frozen features while the encoder trains: k-NN and a linear probe."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_siamim.callbacks.live_encoder import LabeledSplits
from keras_siamim.callbacks.observer import Observer
from keras_siamim.evaluation.exact_probe import standardize
from keras_siamim.evaluation.knn import knn
from keras_siamim.evaluation.logistic import fit_logistic


class _OnlineAccuracy(Observer):
    """Callback that logs an accuracy of the present features every few epochs.

    Args:
        splits: `LabeledSplits`.
        every_epochs: Integer, 1 or more.
        report: Function of one line of text.
    """

    key = description = ""

    def __init__(self, splits: LabeledSplits, every_epochs: int, report: Callable[[str], object]):
        super().__init__(report)
        if every_epochs < 1:
            raise ValueError(f"`every_epochs` must be 1 or more. Received: {every_epochs}.")
        self.splits = splits
        self.every_epochs = every_epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.splits.forget()

    def on_epoch_end(self, epoch, logs=None):
        if not self.is_due(epoch, self.every_epochs):
            return
        accuracy = self.attempt(self.description, lambda: self.accuracy(*self.splits.features(self.model)))
        if accuracy is not None and logs is not None:
            logs[self.key] = accuracy

    def accuracy(self, train_features, train_labels, test_features, test_labels) -> float:
        """Return the accuracy on the test split."""
        raise NotImplementedError


class OnlineKNN(_OnlineAccuracy):
    """Callback that logs the k-NN accuracy of held-out images as `knn` every few epochs, and after the last one.

    Training is unchanged, bit by bit. Labels that are missing or of one class are reported once.

    Args:
        splits: `LabeledSplits`.
        every_epochs: Integer, 1 or more. Epochs between two evaluations. Defaults to 1.
        k: Integer, 1 or more. Number of neighbors, at most the number of training images. Defaults to 20.
        report: Function of one line of text. Defaults to `print`.

    Raises:
        ValueError: If a number is below 1.

    Example:
        >>> from keras_siamim.callbacks import LabeledSplits, LiveEncoder, OnlineKNN
        >>> images = np.repeat(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), 2, axis=0).astype("float32")
        >>> split, model = (images, np.array([0, 0, 1, 1])), keras.Sequential([keras.layers.Dense(1)])
        >>> encoder = LiveEncoder(ViTEncoder(image_size=8, patch_size=4, width=8, depth=1, num_heads=2))
        >>> model.compile("sgd", "mse")
        >>> callback = OnlineKNN(LabeledSplits(split, split, encoder), k=1)
        >>> model.fit(np.ones((2, 3)), np.ones((2, 1)), verbose=0, callbacks=[callback]).history["knn"]
        [1.0]
    """

    key, description = "knn", "k-NN accuracy"

    def __init__(
        self, splits: LabeledSplits, every_epochs: int = 1, k: int = 20, report: Callable[[str], object] = print
    ):
        super().__init__(splits, every_epochs, report)
        if k < 1:
            raise ValueError(f"`k` must be 1 or more. Received: {k}.")
        self.k = k

    def accuracy(self, train_features, train_labels, test_features, test_labels):
        classes = 1 + int(max(train_labels.max(), test_labels.max()))
        arrays = (train_features, train_labels, test_features, test_labels)
        result = knn(*arrays, k=min(self.k, len(train_labels)), num_classes=classes)
        return next(iter(result.numbers.values()))


class OnlineProbe(_OnlineAccuracy):
    """Callback that trains a linear probe beside the encoder, and logs its held-out accuracy as `probe`.

    Every few epochs a logistic regression is fitted to the standardized features of the training images. It starts
    afresh each time, so that a resumed run has the same numbers. No gradient reaches the encoder, and training is
    unchanged, bit by bit. The fit needs scikit-learn.

    Args:
        splits: `LabeledSplits`.
        every_epochs: Integer, 1 or more. Epochs between two evaluations. Defaults to 1.
        penalty: Float above 0. Weight of half the squared norm of the weights in the mean loss. Defaults to 0.01.
        report: Function of one line of text. Defaults to `print`.

    Raises:
        ValueError: If an argument is out of its range.
    """

    key, description = "probe", "accuracy of the linear probe"
    # Enough for the accuracy; convergence to all digits would take several times as long.
    _MAX_ITERATIONS = 100

    def __init__(
        self,
        splits: LabeledSplits,
        every_epochs: int = 1,
        penalty: float = 0.01,
        report: Callable[[str], object] = print,
    ):
        super().__init__(splits, every_epochs, report)
        if not penalty > 0:
            raise ValueError(f"`penalty` must be above 0. Received: {penalty}.")
        self.penalty = penalty

    def accuracy(self, train_features, train_labels, test_features, test_labels):
        train, test = (part.astype("float32") for part in standardize(train_features, test_features))
        classifier = fit_logistic(train, train_labels, self.penalty * len(train), True, self._MAX_ITERATIONS)
        return float(np.mean(classifier.estimator.predict(test) == test_labels))
