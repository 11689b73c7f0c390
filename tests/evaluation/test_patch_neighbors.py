import numpy as np
import pytest

from keras_siamim.evaluation.patch_neighbors import nearest_rows

pytestmark = pytest.mark.one_backend


def brute_force(queries, bank, k, metric):
    if metric == "cosine":
        queries, bank = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (queries, bank))
        return np.argsort(-(queries @ bank.T).round(9), axis=1, kind="stable")[:, :k]
    distances = ((queries[:, None] - bank[None]) ** 2).sum(-1).round(9)
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("k", [1, 7, 60])
def test_neighbors_are_exact_for_every_chunk_size(metric, k, rng):
    queries, bank = rng.normal(size=(33, 5)), rng.normal(size=(60, 5))
    expected = brute_force(queries, bank, k, metric)
    for chunks in ((2048, 8192), (10, 7), (4, 59)):
        np.testing.assert_array_equal(nearest_rows(queries, bank, k, metric, *chunks), expected)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_equal_distances_go_to_the_lowest_index(metric, rng):
    # Many more equal rows than candidates are kept.
    bank = np.repeat(rng.normal(size=(4, 3)), 40, axis=0)[rng.permutation(160)]
    queries = np.concatenate([bank[:20], np.zeros((1, 3))])
    np.testing.assert_array_equal(nearest_rows(queries, bank, 30, metric), brute_force(queries, bank, 30, metric))


def test_scaled_rows_are_equal_under_cosine():
    bank = np.array([[0.3, 0.1], [3.0, 1.0], [0.9, 0.3], [1.0, -1.0]])
    np.testing.assert_array_equal(nearest_rows(np.array([[6.0, 2.0]]), bank, 3, "cosine"), [[0, 1, 2]])


def test_small_differences_far_from_zero_are_resolved():
    bank = 1000 + np.arange(200)[::-1, None] * 1e-3 * np.ones((200, 4))
    np.testing.assert_array_equal(nearest_rows(np.full((1, 4), 1000.0), bank, 3), [[199, 198, 197]])


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"`k` must be in \[1, 2\].*Received: 3"):
        nearest_rows(np.ones((1, 2)), np.ones((2, 2)), 3)
    with pytest.raises(ValueError, match="`metric` must be one of cosine, l2"):
        nearest_rows(np.ones((1, 2)), np.ones((2, 2)), 1, "dot")
