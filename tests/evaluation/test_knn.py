import tracemalloc

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from keras_siamim.evaluation.knn import knn, nearest_neighbors, vote


def clusters(images, seed, width=24, classes=5):
    """Overlapping clusters: class centers are fixed, the noise is seeded."""
    centers = np.random.default_rng(0).normal(size=(classes, width))
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    features = centers[labels] + 1.5 * random.normal(size=(images, width))
    return features.astype("float32"), labels


@pytest.mark.parametrize("chunks", [(1024, 16_384), (7, 33)])
def test_neighbors_equal_brute_force_for_any_chunks(chunks):
    bank, queries = clusters(300, 1)[0], clusters(50, 2)[0]

    similarities, ids = nearest_neighbors(queries, bank, 20, *chunks)

    distances, expected = (
        NearestNeighbors(n_neighbors=20, metric="cosine", algorithm="brute").fit(bank).kneighbors(queries)
    )
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(similarities, 1 - distances, atol=1e-6)


@pytest.mark.parametrize("k", [1, 20])
def test_accuracy_equals_scikit_learn_with_the_same_weights(k):
    (bank, bank_labels), (queries, query_labels) = clusters(400, 1), clusters(80, 2)
    theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07))

    expected = theirs.fit(bank, bank_labels).score(queries, query_labels)

    assert 0.3 < expected < 1
    assert knn(bank, bank_labels, queries, query_labels, k=k).numbers == {f"top1_k{k}": pytest.approx(expected)}


def test_several_k_share_one_search_and_equal_separate_ones():
    (bank, bank_labels), (queries, query_labels) = clusters(400, 1), clusters(80, 2)

    together = knn(bank, bank_labels, queries, query_labels, k=(10, 20)).numbers

    apart = [knn(bank, bank_labels, queries, query_labels, k=k).numbers for k in (10, 20)]
    assert together == apart[0] | apart[1]


def test_a_closer_neighbor_outvotes_two_farther_ones_at_a_low_temperature():
    similarities, labels = [[0.9, 0.5, 0.5]], [[0, 1, 1]]

    assert vote(similarities, labels, temperature=0.07) == [0]
    assert vote(similarities, labels, temperature=10.0) == [1]


def test_ties_of_the_vote_go_to_the_lowest_class():
    assert vote([[0.5, 0.5, 0.1]], [[7, 3, 5]], temperature=0.1) == [3]


@pytest.mark.parametrize("width", [24, 384])
@pytest.mark.parametrize("chunks", [(1024, 16_384), (3, 7), (5, 40)])
def test_ties_of_equal_images_go_to_the_first_in_the_training_set(chunks, width):
    random = np.random.default_rng(0)
    bank = random.permutation(np.repeat(random.normal(size=(4, width)), 25, axis=0))
    queries = np.unique(bank, axis=0).astype("float32")
    _, ids = nearest_neighbors(queries, bank.astype("float32"), 10, *chunks)
    for query, found in zip(queries, ids, strict=True):
        equal = np.flatnonzero((bank.astype("float32") == query).all(axis=1))
        np.testing.assert_array_equal(found, equal[:10])


@pytest.mark.parametrize("chunks", [(1024, 16_384), (1, 700), (7, 100), (64, 333)])
def test_ties_go_to_the_lowest_training_index_despite_rounding(chunks):
    random = np.random.default_rng(0)
    distinct = random.normal(size=(40, 384)).astype("float32")
    numbers = random.integers(0, 40, 700)
    queries = np.concatenate([random.normal(size=(60, 384)), np.zeros((1, 384))]).astype("float32")

    _, ids = nearest_neighbors(queries, distinct[numbers], 20, *chunks)

    of_distinct = queries.astype("float64") @ (distinct / np.linalg.norm(distinct.astype("float64"), axis=1)[:, None]).T
    expected = np.argsort(-of_distinct[:, numbers], axis=1, kind="stable")[:, :20]
    np.testing.assert_array_equal(ids, expected)


def test_rows_that_differ_in_the_order_of_their_values_are_equally_near_the_diagonal():
    row = np.random.default_rng(0).normal(size=384).astype("float32")
    bank = np.stack([np.random.default_rng(seed).permutation(row) for seed in range(100)])

    _, ids = nearest_neighbors(np.ones((2, 384), "float32"), bank, 10, 1, 33)

    np.testing.assert_array_equal(ids, np.tile(np.arange(10), (2, 1)))


def test_features_that_have_almost_collapsed_keep_their_nearest_neighbors():
    random = np.random.default_rng(0)
    center = random.normal(size=384)
    bank, queries = ((center + 1e-3 * random.normal(size=(count, 384))).astype("float32") for count in (500, 20))

    _, ids = nearest_neighbors(queries, bank, 20)

    wide = [
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in (queries.astype("float64"), bank.astype("float64"))
    ]
    expected = np.argsort(-(wide[0] @ wide[1].T), axis=1)[:, :20]
    assert np.mean([len(set(ours) & set(theirs)) for ours, theirs in zip(ids, expected, strict=True)]) > 17


def test_large_label_ids_cost_no_memory_and_numpy_numbers_are_numbers():
    (bank, bank_labels), (queries, query_labels) = clusters(400, 1), clusters(80, 2)
    expected = knn(bank, bank_labels, queries, query_labels, k=10).numbers
    ids = np.array([0, 7, 299_999, 150_000, 42])
    tracemalloc.start()
    assert knn(bank, ids[bank_labels], queries, ids[query_labels], k=np.int64(10)).numbers == expected
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_the_length_of_a_feature_does_not_matter():
    (bank, bank_labels), (queries, query_labels) = clusters(200, 1), clusters(40, 2)
    scale = np.random.default_rng(3).uniform(0.1, 10, (200, 1)).astype("float32")

    assert (
        knn(bank * scale, bank_labels, queries, query_labels).numbers
        == knn(bank, bank_labels, queries, query_labels).numbers
    )


def test_a_note_reports_a_reduced_number_of_neighbors():
    features, labels = clusters(30, 1)

    result = knn(features, labels, features, labels, k=(10, 200))

    assert list(result.numbers) == ["top1_k10", "top1_k30"]
    assert result.notes == ("k = 200 was reduced to 30, the number of training images.",)


FEATURES, LABELS = np.ones((4, 2), "float32"), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("at least two classes. Received: only class 0", (FEATURES, LABELS * 0, FEATURES, LABELS * 0)),
        (
            "`test_labels` must be in \\[0, 2\\). Received: values in",
            (FEATURES, LABELS, FEATURES, LABELS * 2),
        ),
        ("`train_labels` must be 0 or more", (FEATURES, LABELS - 1, FEATURES, LABELS)),
        ("`train_labels` must hold integers", (FEATURES, LABELS / 2, FEATURES, LABELS)),
        ("one label per image, shape \\(4,\\)", (FEATURES, LABELS[:3], FEATURES, LABELS)),
        ("`test_features` must be a non-empty \\(images, width\\) array", (FEATURES, LABELS, FEATURES[:0], LABELS[:0])),
        ("`train_features` must be finite.* first being row 0", (FEATURES * np.nan, LABELS, FEATURES, LABELS)),
        ("must have the width of `train_features`, 2. Received: 1", (FEATURES, LABELS, FEATURES[:, :1], LABELS)),
        ("`train_features` must hold floats", (FEATURES.astype(int), LABELS, FEATURES, LABELS)),
    ],
)
def test_malformed_splits_are_refused_with_the_reason(message, arguments):
    with pytest.raises(ValueError, match=message):
        knn(*arguments)


@pytest.mark.parametrize("settings", [{"k": 0}, {"k": ()}, {"k": 2.5}, {"k": True}, {"temperature": 0.0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        knn(FEATURES, LABELS, FEATURES, LABELS, **settings)
