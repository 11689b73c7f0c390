"""Classes of two splits are matched by name."""

import numpy as np
import pytest

from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.pipeline import training_batches
from keras_siamim.data.sources import array_source
from keras_siamim.data.sources.derived import has_labels, match_classes, with_gaps
from keras_siamim.data.views.paired_views import PairedViews

pytestmark = pytest.mark.one_backend


def source(name, *classes):
    labels = np.arange(len(classes))
    return array_source(np.zeros((len(labels), 4, 4, 3), "uint8"), labels, name, classes)


def labels_of(source):
    return [int(example["label"]) for example in source.examples(0, 0, False).as_numpy_iterator()]


def test_a_class_without_test_images_leaves_the_labels_unchanged():
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


def test_classes_that_are_missing_in_training_are_reported():
    with pytest.raises(ValueError, match="among those of train. Received: only in test: Bee, wasp; only in train: bee"):
        match_classes(source("train", "ant", "bee"), source("test", "ant", "Bee", "wasp"))


def test_unlabeled_images_are_recognized():
    unlabeled = array_source(np.zeros((2, 4, 4, 3), "uint8"))
    assert not has_labels(unlabeled)
    with pytest.raises(ValueError, match="`test` must have labels. Received: array, without labels"):
        match_classes(source("train", "ant", "bee"), unlabeled)


def test_gaps_keep_every_other_image_in_its_slot():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype("uint8")
    views = PairedViews(8, view_2=None)

    def batches(source, ledger):
        found = training_batches(source, views, batch_size=3, ledger=ledger).take(4)
        return [batch["view_1"] for batch in found.as_numpy_iterator()]

    listed = Ledger(limit=0.9)
    complete = array_source(pixels)
    listed.add(complete, 2, "no image")
    gone = with_gaps(array_source(np.delete(pixels, 2, axis=0)), [2])
    assert (gone.size, gone.locate(1), gone.locate(2), gone.locate(3)) == (6, "image 1", "image 2, removed", "image 2")
    broken = with_gaps(array_source(np.delete(pixels, 2, axis=0)), [2])
    np.testing.assert_array_equal(batches(broken, Ledger(limit=0.9)), batches(gone, listed))
    indices = [example["index"] for example in complete.examples(0, 0, False).as_numpy_iterator()]
    assert indices == list(range(6))
