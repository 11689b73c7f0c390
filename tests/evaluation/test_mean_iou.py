import numpy as np
import pytest

from keras_siamim.evaluation.mean_iou import MeanIoU

pytestmark = pytest.mark.one_backend


def test_counts_are_summed_over_images_before_they_are_divided():
    metric = MeanIoU(3)
    metric.update([[0, 0, 0, 1]], [[0, 0, 1, 1]])
    metric.update([1, 255], [0, 2])
    scores = metric.scores()
    # Class 0: 2 of 4; class 1: 1 of 3; class 2 is neither labeled nor, on counted pixels, predicted.
    np.testing.assert_allclose(scores.iou, [2 / 4, 1 / 3, np.nan])
    assert scores.mean_iou == pytest.approx((2 / 4 + 1 / 3) / 2)
    assert scores.pixel_accuracy == 3 / 5
    np.testing.assert_allclose(scores.accuracy, [2 / 3, 1 / 2, np.nan])
    assert scores.by_class(("a", "b", "c"))["c"] is None


def test_a_class_that_is_predicted_but_never_labeled_counts_as_zero():
    metric = MeanIoU(2)
    metric.update([0, 0], [0, 1])
    assert metric.scores().mean_iou == 0.25


def test_ignored_pixels_alone_are_an_error():
    metric = MeanIoU(2)
    metric.update([255], [0])
    with pytest.raises(ValueError, match="Received: none, or ignored pixels only"):
        metric.scores()


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([0, 2], [0, 0], r"`labels` must be in \[0, 2\).*\[0, 2\]"),
        ([0, 1], [0, -1], r"`predictions` must be in \[0, 2\)"),
        ([0, 1], [0], "`predictions` must have the shape of `labels`"),
    ],
)
def test_values_out_of_range_are_refused(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        MeanIoU(2).update(labels, predictions)
