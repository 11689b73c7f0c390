import pytest

from keras_siamim.reports.verdict import verdict, verdict_table

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


def test_a_linear_probe_is_mentioned_where_it_comes_to_another_order():
    knn = measured(0.80, 0.50, 0.55, 0.93)

    def with_probe(*accuracies):
        rows = zip(knn.items(), accuracies, strict=True)
        return {name: {**values, "linear": linear} for (name, values), linear in rows}

    assert verdict(with_probe(0.90, 0.70, 0.70, 0.94), 1000) == verdict(knn, 1000)
    sentence = verdict(with_probe(0.95, 0.70, 0.72, 0.80), 1000)
    assert sentence.startswith(verdict(knn, 1000))
    assert "95.0 %, with 72.0 % without training and 80.0 % of raw pixels" in sentence


def test_the_table_has_the_measures_that_were_taken():
    rows = {"trained": {"rank": 30.0, "place": 0.5, "place_chance": 0.0625}, "raw_pixels": {"rank": 9.0}}
    header, (trained, raw) = verdict_table(rows)
    assert header == ("", "effective rank", "right place (chance 6.2 %)")
    assert (trained, raw) == (("trained encoder", "30.0", "50.0 %"), ("raw pixels", "9.0", "–"))


def test_without_labels_rank_and_prediction_across_views_are_all_that_is_known():
    ranks = {"trained": {"rank": 30.0}, "initial": {"rank": 10.0}, "random": {"rank": 10.0}}
    assert "from 10.0 to 30.0. Without labels" in verdict(ranks, 0)
    places = {"trained": {"rank": 30.0, "place": 0.5, "place_chance": 0.1}, "initial": {"rank": 10.0, "place": 0.2}}
    assert "right place in 50.0 % of all cases, 20.0 % before training and 10.0 % by chance" in verdict(places, 0)
    assert "may have collapsed" in verdict({**ranks, "trained": {"rank": 2.0}}, 0)
    assert verdict({"trained": {}}, 0) == "Too little was measured for a verdict."
