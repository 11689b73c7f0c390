import numpy as np
import pytest

from keras_siamim.evaluation.health import alignment, channel_spread, effective_rank, health, uniformity

pytestmark = pytest.mark.one_backend


def gaussian(images=2000, width=16, seed=0):
    return np.random.default_rng(seed).normal(size=(images, width)).astype("float32")


def test_effective_rank_equals_the_definition_by_singular_values():
    features = gaussian() @ np.diag(np.linspace(0.01, 1, 16)).astype("float32")
    singular = np.linalg.svd(features.astype("float64"), compute_uv=False)
    share = singular / singular.sum() + 1e-7

    assert effective_rank(features) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-6)
    assert effective_rank(features[:10]) <= 10.001


@pytest.mark.parametrize("rank", [1, 3, 16])
def test_effective_rank_counts_equal_directions(rank):
    assert effective_rank(np.eye(16, dtype="float32")[:rank].repeat(5, axis=0)) == pytest.approx(rank, rel=1e-3)


def test_spread_is_one_on_the_sphere_and_zero_when_collapsed():
    assert channel_spread(gaussian()) == pytest.approx(1, abs=0.02)
    assert channel_spread(np.ones((5, 16), "float32")) == pytest.approx(0, abs=1e-6)


def test_alignment_is_zero_for_equal_views_and_two_for_unrelated_ones():
    assert alignment(gaussian(), 3 * gaussian()) == pytest.approx(0, abs=1e-9)
    assert alignment(gaussian(), gaussian(seed=1)) == pytest.approx(2, abs=0.05)


def test_uniformity_equals_its_definition_over_all_pairs():
    features = gaussian(60)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    squared = np.square(unit[:, None] - unit[None]).sum(-1)[np.triu_indices(60, 1)]

    assert uniformity(features) == pytest.approx(np.log(np.exp(-2 * squared).mean()), rel=1e-5)
    assert uniformity(np.ones((5, 16), "float32")) == pytest.approx(0, abs=1e-5)


def test_the_subset_for_uniformity_is_seeded():
    first, again = (health(gaussian(), max_pairs_from=100, seed=3).numbers for _ in range(2))

    assert first == again
    assert first["uniformity"] == pytest.approx(health(gaussian()).numbers["uniformity"], abs=0.1)


def test_alignment_appears_only_with_a_second_view():
    assert "alignment" not in health(gaussian()).numbers
    assert health(gaussian(), gaussian()).numbers["alignment"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("at least two images. Received: 1", {"features": gaussian(1)}),
        ("`paired_features` must have the width", {"features": gaussian(4), "paired_features": gaussian(5)}),
        ("`features` must be finite", {"features": gaussian(4) * np.inf}),
        ("`max_pairs_from` must be 2 or more. Received: 1", {"features": gaussian(4), "max_pairs_from": 1}),
    ],
)
def test_bad_input_is_refused(message, arguments):
    with pytest.raises(ValueError, match=message):
        health(**arguments)
