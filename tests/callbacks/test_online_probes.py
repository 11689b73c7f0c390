import functools

import keras
import numpy as np
import pytest

from keras_siamim.callbacks import LabeledSplits, LiveEncoder, OnlineKNN, OnlineProbe
from keras_siamim.evaluation.patch_features import RawPatches

pytestmark = pytest.mark.one_backend("torch")

LABELS = np.arange(24) % 3
IMAGES = np.random.default_rng(0).normal(size=(24, 8, 8, 3)).astype("float32")
IMAGES += 4.0 * np.eye(3, dtype="float32")[LABELS][:, None, None]  # classes are red, green and blue


def fit(kind, train, test, epochs=3, **arguments):
    """Train something else for a few epochs; return the logs and the reported lines."""
    lines = []
    splits = LabeledSplits(train, test, LiveEncoder(RawPatches(4), batch_size=8))
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callback = kind(splits, report=lines.append, **arguments)
    x, y = np.ones((2, 3), "float32"), np.ones((2, 1), "float32")
    return model.fit(x, y, epochs=epochs, verbose=0, callbacks=[callback]).history, lines


@pytest.mark.parametrize(("kind", "key"), [(functools.partial(OnlineKNN, k=3), "knn"), (OnlineProbe, "probe")])
def test_the_accuracy_of_separable_classes_is_logged_every_few_epochs_and_at_the_end(kind, key):
    batches = [(IMAGES[i : i + 5], LABELS[i : i + 5]) for i in range(0, 24, 5)]
    history, lines = fit(kind, batches, (IMAGES[::-1], LABELS[::-1]), every_epochs=2)
    assert history[key] == [1.0, 1.0]  # epochs 2 and 3
    assert lines == []


@pytest.mark.parametrize("kind", [OnlineKNN, OnlineProbe])
@pytest.mark.parametrize(
    ("train", "test", "reason"),
    [
        ((IMAGES, np.full(24, -1)), (IMAGES, LABELS), "there are 0 classes"),
        ((IMAGES, np.zeros(24, int)), (IMAGES, LABELS), "there are 1 classes"),
        ((IMAGES, LABELS), (IMAGES, np.full(24, -1)), "and 0 test images"),
        ([], [], "there are 0 classes"),
    ],
    ids=["no labels", "one class", "no labels in test", "no images"],
)
def test_missing_labels_are_reported_once_and_training_goes_on(kind, train, test, reason):
    history, (line,) = fit(kind, train, test)
    assert len(history["loss"]) == 3
    assert reason in line


def test_three_images_are_enough():
    history, lines = fit(OnlineKNN, (IMAGES[:3], LABELS[:3]), (IMAGES, LABELS), epochs=1)
    assert 0 <= history["knn"][0] <= 1
    assert lines == []


def test_images_that_can_be_read_later_are_measured_later():
    class Flaky:
        reads = 0

        def __iter__(self):
            self.reads += 1
            if self.reads < 3:
                raise OSError("the disk is away")
            return iter([(IMAGES, LABELS)])

    history, (line,) = fit(OnlineKNN, Flaky(), (IMAGES, LABELS), k=3)
    assert line == "no k-NN accuracy: the disk is away. Training goes on."
    assert history["knn"] == [1.0]


def test_callbacks_that_share_splits_extract_features_once_per_epoch():
    class Counted:
        reads = 0

        def __iter__(self):
            self.reads += 1
            return iter([(IMAGES, LABELS)])

    train = Counted()
    splits = LabeledSplits(train, (IMAGES, LABELS), LiveEncoder(RawPatches(4), batch_size=24))
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callbacks = [OnlineKNN(splits), OnlineProbe(splits)]
    model.fit(np.ones((2, 3)), np.ones((2, 1)), epochs=2, verbose=0, callbacks=callbacks)
    assert train.reads == 2
