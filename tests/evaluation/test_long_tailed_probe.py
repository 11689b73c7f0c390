import numpy as np
import pytest

from keras_siamim.evaluation.exact_probe import exact_probe
from keras_siamim.evaluation.knn import knn
from keras_siamim.evaluation.long_tailed_probe import (
    long_tailed_counts,
    long_tailed_probe,
    shot_groups,
    thin_to_profile,
)
from tests.evaluation.test_knn import clusters

pytestmark = pytest.mark.one_backend


@pytest.mark.parametrize(
    ("images", "classes", "imbalance", "total"),
    # The sizes of CIFAR-10-LT and CIFAR-100-LT that the literature states.
    [(5000, 10, 100, 12_406), (5000, 10, 10, 20_431), (500, 100, 100, 10_847), (500, 100, 10, 19_573)],
)
def test_the_profile_is_that_of_long_tailed_cifar(images, classes, imbalance, total):
    counts = long_tailed_counts([images] * classes, imbalance)

    assert counts.sum() == total
    assert (counts[0], counts[-1]) == (images, images // imbalance)


def test_small_classes_keep_two_images_or_all():
    assert long_tailed_counts([50, 50, 50], 100).tolist() == [50, 5, 2]
    assert long_tailed_counts([50, 50, 1], 100).tolist() == [50, 5, 1]
    assert long_tailed_counts([9, 9], 1).tolist() == [9, 9]


def test_subsets_are_drawn_by_the_seed_with_another_order_of_the_classes():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(6), 200))

    subsets = [thin_to_profile(labels, 10, (0, draw)) for draw in (0, 0, 1)]

    np.testing.assert_array_equal(subsets[0], subsets[1])
    counts = [np.bincount(labels[kept], minlength=6) for kept in subsets]
    assert sorted(counts[0]) == sorted(counts[2]) == [20, 31, 50, 79, 126, 200]
    assert counts[0].tolist() != counts[2].tolist()
    assert all(len(np.unique(kept)) == len(kept) for kept in subsets)


def test_groups_are_divided_at_100_and_20_images():
    train = np.repeat(np.arange(4), [101, 100, 20, 19])

    groups = shot_groups(train, np.array([0, 1, 2, 3, 4]))

    assert {name: np.flatnonzero(mask).tolist() for name, mask in groups.items()} == {
        "many": [0],
        "medium": [1, 2],
        "few": [3, 4],
    }


def test_the_accuracies_are_those_of_both_protocols_on_the_subset():
    (train, labels), (test, test_labels) = clusters(1500, 1), clusters(200, 2)
    kept = thin_to_profile(labels, 30, (5, 0))

    result = long_tailed_probe(train, labels, test, test_labels, imbalance=30, num_draws=1, seed=5)

    subset = (train[kept], labels[kept], test, test_labels)
    assert result.numbers["linear_top1"] == exact_probe(*subset, seed=(5, 0)).numbers["top1"]
    assert result.numbers["knn_top1"] == knn(*subset, k=20).numbers["top1_k20"]
    groups = shot_groups(labels[kept], test_labels)
    for name in ("linear", "knn"):
        parts = sum(result.numbers[f"{name}_{group}"] * mask.sum() for group, mask in groups.items())
        assert parts / 200 == pytest.approx(result.numbers[f"{name}_top1"])
        assert result.numbers[f"{name}_many"] > result.numbers[f"{name}_few"]
    assert result.data["labeled_images"] == len(kept)


def test_several_draws_give_a_mean_and_a_deviation_and_missing_groups_are_noted():
    (train, labels), (test, test_labels) = clusters(300, 1), clusters(100, 2)

    result = long_tailed_probe(train, labels, test, test_labels, imbalance=100, num_draws=2, k=500)
    single = [
        long_tailed_probe(train[kept], labels[kept], test, test_labels, imbalance=1, num_draws=1, k=500).numbers[
            "knn_top1"
        ]
        for kept in (thin_to_profile(labels, 100, (0, draw)) for draw in (0, 1))
    ]

    assert result.numbers["knn_top1"] == pytest.approx(np.mean(single))
    assert result.numbers["knn_top1_std"] == pytest.approx(np.std(single, ddof=1))
    assert "knn_many" not in result.numbers
    notes = " ".join(result.notes)
    assert "No test images of classes with many shots." in notes
    assert "Classes keep at least 2 images where the profile has fewer." in notes
    assert "k = 500 was reduced" in notes


@pytest.mark.parametrize(
    ("message", "settings"),
    [
        ("`imbalance` must be 1 or more", {"imbalance": 0.5}),
        ("`imbalance` must be 1 or more", {"imbalance": np.inf}),
        ("`num_draws` must be 1 or more", {"num_draws": 0}),
        ("`k` must be 1 or more", {"k": 0}),
        ("`temperature` must be above 0", {"temperature": 0.0}),
    ],
)
def test_settings_out_of_range_are_refused(message, settings):
    features, labels = clusters(40, 1)
    with pytest.raises(ValueError, match=message):
        long_tailed_probe(features, labels, features, labels, **settings)
