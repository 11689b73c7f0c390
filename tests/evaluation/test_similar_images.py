import numpy as np
import pytest

from keras_siamim.evaluation import similar_images
from keras_siamim.evaluation.similar_images import near_duplicates, nearest_images

pytestmark = pytest.mark.one_backend


def cosines(features):
    centered = features - features.mean(axis=0)
    unit = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    return unit @ unit.T


@pytest.fixture(params=[1000, 7], ids=["at once", "in chunks"])
def features(request, rng, monkeypatch):
    monkeypatch.setattr(similar_images, "_CHUNK", request.param)
    return rng.normal(size=(20, 6)) + 5


def test_neighbors_are_the_most_similar_others_in_order(features):
    expected = cosines(features)
    np.fill_diagonal(expected, -np.inf)
    found = nearest_images(features, count=3)
    np.testing.assert_array_equal(found.indices, np.argsort(-expected, axis=1)[:, :3])
    np.testing.assert_allclose(found.similarities, -np.sort(-expected, axis=1)[:, :3], atol=1e-6)


def test_the_most_unusual_image_comes_first(rng):
    features = np.concatenate([rng.normal(size=(10, 4)) * 0.1 + [5, 0, 0, 0], [[0, 0, 5, 0]]])
    assert nearest_images(features, count=50).indices.shape == (11, 10)
    assert nearest_images(features).unusual()[0] == 10


def test_duplicates_are_pairs_above_the_threshold_each_once(features):
    features[[3, 15]] = features[[8, 2]]
    features[11] = features[8] + 0.01
    pairs = near_duplicates(features)
    assert [pair[:2] for pair in pairs[:2]] == [(2, 15), (3, 8)]
    assert {pair[:2] for pair in pairs[2:]} == {(3, 11), (8, 11)}
    expected = np.argwhere(np.triu(cosines(features) >= 0.5, k=1))
    assert {pair[:2] for pair in near_duplicates(features, 0.5)} == set(map(tuple, expected.tolist()))


@pytest.mark.parametrize("count", [2, 50])
def test_equal_images_are_found_where_there_are_no_others(count):
    pairs = near_duplicates(np.tile([[1.0, 2.0, 3.0]], (count, 1)))
    assert len(pairs) == count * (count - 1) // 2
    assert {pair[2] for pair in pairs} == {1.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nearest_images(np.ones((1, 3))), "at least two images"),
        (lambda: nearest_images(np.ones((3, 3)), count=0), "`count` must be 1 or more"),
        (lambda: near_duplicates(np.ones((3, 3)), 0), "`threshold` must be in"),
        (lambda: near_duplicates(np.ones((9, 3)), most=5), "`threshold` must be so high.*at most 5 pairs"),
    ],
)
def test_invalid_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
