import numpy as np
import pytest
from keras import ops

from keras_siamim.segmentation.loss import pixel_cross_entropy


@pytest.mark.parametrize("over_labeled", [False, True])
def test_the_loss_is_that_of_plain_numpy(over_labeled, rng):
    logits = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    labels = rng.integers(0, 5, (2, 3, 4))
    labels[0, :2] = 255
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    chosen = np.take_along_axis(probabilities, np.where(labels == 255, 0, labels)[..., None], axis=-1)[..., 0]
    total = -np.log(chosen)[labels != 255].sum()
    divisor = (labels != 255).sum() if over_labeled else labels.size
    loss = pixel_cross_entropy(logits, labels, over_labeled=over_labeled)
    np.testing.assert_allclose(ops.convert_to_numpy(loss), total / divisor, rtol=1e-5)


def test_ignored_pixels_alone_give_zero():
    labels = np.full((1, 2, 2), 255)
    for over_labeled in (False, True):
        assert float(pixel_cross_entropy(np.ones((1, 2, 2, 3), "float32"), labels, over_labeled=over_labeled)) == 0
