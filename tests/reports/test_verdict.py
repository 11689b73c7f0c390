import pytest

from keras_siamim.reports.verdict import verdict

pytestmark = pytest.mark.one_backend


def measured(trained, initial, random, raw_pixels):
    numbers = {"trained": trained, "initial": initial, "random": random, "raw_pixels": raw_pixels}
    return {name: {"knn": knn, "rank": 20.0} for name, knn in numbers.items()}


@pytest.mark.parametrize(
    ("accuracies", "sentence"),
    [
        ((0.80, 0.50, 0.55, 0.60), "Training was worth it: k-NN accuracy is 80.0 %, above 55.0 % without training"),
        ((0.80, 0.50, 0.55, 0.93), "Training improved the features, but raw pixels do better with 93.0 %"),
        ((0.80, 0.50, 0.55, 0.79), "Training improved the features, but raw pixels do as well with 79.0 %"),
        ((0.55, 0.54, 0.50, 0.30), "Training did not improve the features: k-NN accuracy is 55.0 %, and 54.0 %"),
        ((0.30, 0.50, 0.55, 0.60), "Training did not improve the features"),
    ],
)
def test_a_verdict_compares_with_untrained_encoders_and_raw_pixels(accuracies, sentence):
    assert verdict(measured(*accuracies), test_images=1000).startswith(sentence)


def test_a_difference_counts_with_enough_test_images_only():
    close = measured(0.55, 0.52, 0.50, 0.30)
    assert verdict(close, test_images=100).startswith("Training did not improve")
    assert verdict(close, test_images=10_000).startswith("Training was worth it")


def test_without_labels_the_rank_is_all_that_is_known():
    ranks = {"trained": {"rank": 30.0}, "initial": {"rank": 10.0}, "random": {"rank": 10.0}}
    assert "from 10.0 to 30.0. Without labels" in verdict(ranks, 0)
    assert "may have collapsed" in verdict({**ranks, "trained": {"rank": 2.0}}, 0)
    assert verdict({"trained": {}}, 0) == "Too little was measured for a verdict."
