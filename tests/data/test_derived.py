"""Classes of two splits are matched by name."""

import numpy as np
import pytest

from keras_siamim.data.derived import has_labels, match_classes
from keras_siamim.data.sources import array_source

pytestmark = pytest.mark.one_backend


def source(name, *classes):
    labels = np.arange(len(classes))
    return array_source(np.zeros((len(labels), 4, 4, 3), "uint8"), labels, name, classes)


def labels_of(source):
    return [int(example["label"]) for example in source.examples(0, 0, False).as_numpy_iterator()]


def test_a_class_without_test_images_moves_no_label():
    test, missing = match_classes(source("train", "ant", "bee", "cat"), source("test", "bee", "cat"))
    assert (labels_of(test), test.class_names, missing) == ([1, 2], ("ant", "bee", "cat"), ("ant",))


def test_equal_classes_change_nothing():
    test = source("test", "ant", "bee")
    assert match_classes(source("train", "ant", "bee"), test) == (test, ())


def test_spellings_in_another_unicode_form_are_the_same_name():
    test, missing = match_classes(source("train", "caf\u00e9", "zebra"), source("test", "cafe\u0301", "zebra"))
    assert (labels_of(test), missing) == ([0, 1], ())
    with pytest.raises(ValueError, match="classes of different names"):
        match_classes(source("train", "caf\u00e9", "cafe\u0301"), test)


def test_classes_that_training_lacks_are_named():
    with pytest.raises(ValueError, match="must be among those of train: ant, bee. Received also: Bee, wasp"):
        match_classes(source("train", "ant", "bee"), source("test", "ant", "Bee", "wasp"))


def test_unlabeled_images_are_told_apart():
    unlabeled = array_source(np.zeros((2, 4, 4, 3), "uint8"))
    assert not has_labels(unlabeled)
    with pytest.raises(ValueError, match="array must have labels"):
        match_classes(source("train", "ant", "bee"), unlabeled)
