import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from keras_siamim.evaluation.exact_probe import exact_probe, standardize
from tests.evaluation.test_knn import clusters

pytestmark = pytest.mark.one_backend


def test_the_probe_equals_scikit_learn_at_the_chosen_penalty():
    (train, train_labels), (test, test_labels) = clusters(300, 1), clusters(100, 2)

    result = exact_probe(train, train_labels, test, test_labels)

    inputs, outputs = standardize(train, test)
    theirs = LogisticRegression(C=1 / (300 * result.numbers["penalty"]), max_iter=1000)
    expected = theirs.fit(inputs.astype("float64"), train_labels).score(outputs.astype("float64"), test_labels)
    assert result.numbers["top1"] == pytest.approx(expected, abs=0.011)


def test_the_penalty_is_chosen_without_the_test_split():
    (train, train_labels), (test, test_labels) = clusters(200, 1), clusters(100, 2)

    usual = exact_probe(train, train_labels, test, test_labels).numbers
    shuffled = exact_probe(train, train_labels, test, np.roll(test_labels, 1)).numbers

    assert shuffled["penalty"] == usual["penalty"]
    assert shuffled["top1_held_out"] == usual["top1_held_out"]


def test_channels_without_variance_are_dropped():
    train, other = standardize(np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[2.0, 9.0]]))

    np.testing.assert_allclose(train, [[-1, 0], [1, 0]])
    np.testing.assert_allclose(other, [[0, 0]])


def test_an_edge_of_the_sweep_and_an_unconverged_fit_are_noted():
    (train, train_labels), (test, test_labels) = clusters(60, 1), clusters(30, 2)

    notes = exact_probe(train, train_labels, test, test_labels, penalties=(1e-9, 1e-8), max_iterations=2).notes

    assert "at the edge of those tried" in notes[0]
    assert "3 of 3 fits did not converge in 2 iterations" in notes[1]


@pytest.mark.parametrize("settings", [{"penalties": ()}, {"penalties": (0.0,)}, {"held_out": 1.0}])
def test_settings_out_of_range_are_refused(settings):
    features, labels = clusters(40, 1)
    with pytest.raises(ValueError, match=next(iter(settings))):
        exact_probe(features, labels, features, labels, **settings)


def test_a_class_of_one_image_cannot_be_held_out():
    features, labels = clusters(40, 1)
    labels[:] = [0] * 39 + [1]
    with pytest.raises(ValueError, match="one image of class 1"):
        exact_probe(features, labels, features, labels)
