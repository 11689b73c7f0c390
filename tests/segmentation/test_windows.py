import numpy as np
import pytest

from keras_siamim.segmentation.windows import slide, window_starts

pytestmark = pytest.mark.one_backend


def test_windows_overlap_and_the_last_one_ends_at_the_border():
    assert window_starts(512, 512, 341) == [0]
    assert window_starts(513, 512, 341) == [0, 1]
    assert window_starts(853, 512, 341) == [0, 341]
    assert window_starts(1200, 512, 341) == [0, 341, 682, 688]


def test_each_pixel_has_the_mean_of_its_windows(rng):
    image = rng.normal(size=(7, 9, 2))
    counter = iter(range(100))
    logits = slide(lambda cuts: np.stack([np.full((4, 4, 1), next(counter)) for _ in cuts]), image, (4, 4), (3, 3))
    # Rows of windows start at 0 and 3, columns at 0, 3 and 5.
    assert logits[0, 0, 0] == 0
    assert logits[0, 3, 0] == 0.5
    assert logits[3, 3, 0] == np.mean([0, 1, 3, 4])
    assert logits[6, 8, 0] == 5


def test_a_small_image_is_padded(rng):
    image = rng.normal(size=(3, 6, 1))
    np.testing.assert_allclose(slide(lambda cuts: cuts, image, (4, 4), (2, 2)), image, rtol=1e-6)
