import numpy as np
import pytest
from PIL import Image

from keras_siamim.cli.live import two_crops
from keras_siamim.data.bad_images import Ledger
from keras_siamim.data.sources import open_source

pytestmark = pytest.mark.one_backend


def test_a_bad_image_is_replaced_even_in_a_small_sample(tmp_path, rng):
    for index in range(4):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype("uint8")).save(tmp_path / f"{index}.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    crops = two_crops(open_source(tmp_path), (8, 8), (1.0, 1.0), 4, Ledger(limit=0.5))
    assert np.isfinite(crops).all()
    assert len(np.unique(crops[0].reshape(4, -1), axis=0)) == 3
