import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from keras_siamim.evaluation.few_shot import center_and_normalize, draw_indices, few_shot, read_image_list
from keras_siamim.evaluation.logistic import fit_logistic
from tests.evaluation.test_knn import clusters

pytestmark = pytest.mark.one_backend


@pytest.mark.parametrize("classes", [2, 4])
def test_the_regression_minimizes_the_multinomial_objective_for_two_classes_and_more(classes):
    features, labels = clusters(60, 1, width=6, classes=classes)
    features = center_and_normalize(features).astype("float64")

    def objective(flat):
        weights = flat.reshape(6, classes)
        return -log_softmax(features @ weights, axis=1)[range(60), labels].sum() + 0.05 * np.square(weights).sum()

    best = minimize(objective, np.zeros(6 * classes), tol=1e-9).x.reshape(6, classes)
    expected = (features @ best).argmax(axis=1)

    classifier = fit_logistic(features, labels, penalty=0.1, intercept=False)

    weights = classifier.estimator.coef_.T
    weights = np.concatenate([-weights / 2, weights / 2], axis=1) if classes == 2 else weights
    np.testing.assert_allclose(weights, best, atol=5e-3)
    assert classifier.accuracy(features, expected) == 1.0


def test_features_lose_their_mean_and_length():
    features = center_and_normalize(np.random.default_rng(0).normal(3, 2, (5, 8)))

    np.testing.assert_allclose(features.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)


def test_subsets_have_the_same_share_of_every_class():
    labels = np.repeat([0, 1, 2], [100, 200, 3])

    subset = draw_indices(labels, fraction=0.1, seed=1)

    assert np.bincount(labels[subset]).tolist() == [10, 20, 1]
    assert len(np.unique(subset)) == len(subset)
    np.testing.assert_array_equal(subset, draw_indices(labels, fraction=0.1, seed=1))
    assert not np.array_equal(subset, draw_indices(labels, fraction=0.1, seed=2))
    assert np.bincount(labels[draw_indices(labels, per_class=5)]).tolist() == [5, 5, 3]


def test_more_labels_help_and_several_subsets_give_a_deviation():
    data = (*clusters(400, 1), *clusters(100, 2))

    one, many = few_shot(*data, per_class=1), few_shot(*data, fraction=0.5)

    assert one.numbers["top1"] < many.numbers["top1"]
    assert one.numbers["top1_std"] > 0
    assert one.data["labeled_images"] == 5
    assert few_shot(*data, per_class=1).numbers == one.numbers


def test_a_list_of_images_fixes_the_subset(tmp_path):
    data = (*clusters(400, 1), *clusters(100, 2))
    names = [f"train/{label}/{number}.png" for number, label in enumerate(data[1])]
    subset = draw_indices(data[1], per_class=2, seed=(0, 0))
    (tmp_path / "list.txt").write_text("\n".join(f"{number}.png" for number in subset) + "\n\n")

    indices = read_image_list(tmp_path / "list.txt", names)

    np.testing.assert_array_equal(indices, subset)
    fixed = few_shot(*data, indices=indices)
    assert fixed.numbers == few_shot(*data, per_class=2, num_subsets=1).numbers
    assert fixed.seed is None


def test_a_list_must_fit_the_images(tmp_path):
    (tmp_path / "list.txt").write_text("a/1.png\n")
    assert read_image_list(tmp_path / "list.txt", ["a/1.png", "b/1.png"]).tolist() == [0]
    with pytest.raises(ValueError, match="'a/1.png', which matches 0 of 1"):
        read_image_list(tmp_path / "list.txt", ["2.png"])
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(ValueError, match="lists none"):
        read_image_list(tmp_path / "list.txt", ["2.png"])


def test_a_note_reports_small_classes():
    features, labels = clusters(40, 1)

    result = few_shot(features, labels, features, labels, per_class=30, num_subsets=1)

    assert result.notes[0].startswith("Classes with fewer than 30 images contributed all of them")


@pytest.mark.parametrize(
    ("message", "settings"),
    [
        ("must be given, exactly one of them", {}),
        ("must be given, exactly one of them", {"fraction": 0.1, "per_class": 3}),
        ("`fraction` must be above 0", {"fraction": 0}),
        ("`per_class` must be 1 or more", {"per_class": 0}),
        ("`penalty` must be above 0", {"per_class": 1, "penalty": 0}),
        ("`num_subsets` must be 1 or more", {"per_class": 1, "num_subsets": 0}),
        ("`indices` must be one or more distinct integers in \\[0, 40\\)", {"indices": [1, 1]}),
        ("`indices` must be one or more distinct integers in \\[0, 40\\)", {"indices": [40]}),
        ("`indices` must cover at least two classes", {"indices": [0]}),
    ],
)
def test_settings_out_of_range_are_refused(message, settings):
    features, labels = clusters(40, 1)
    with pytest.raises(ValueError, match=message):
        few_shot(features, labels, features, labels, **settings)
