import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_siamim import AdamW, ViTEncoder
from keras_siamim.data import pipeline, sources
from keras_siamim.data.masking import Masking
from keras_siamim.data.views import color
from keras_siamim.data.views.on_device_views import RenderViews
from keras_siamim.data.views.paired_views import PairedViews
from keras_siamim.objectives import MAE
from tests.data.images.photographs import photographs

# The sizes of test_views, so that XLA has compiled them.
IMAGES = photographs()[:, 100:140, 200:248]
SIZE = 16


def raw_and_rendered(first, equal=True):
    """Return a raw batch of two images, and the views that tf.data makes from it."""
    views = PairedViews(SIZE, seed=4)
    boxes, samples = views.draw(tf.constant([first, first + 1], tf.int64), 0, tf.fill([2], 40), tf.fill([2], 48))
    raw = {"images": tf.constant(IMAGES), "boxes": boxes, "numbers": samples}
    if not equal:
        cropped = [views.cut(image, own) for image, own in zip(IMAGES, boxes, strict=True)]
        raw = {"cut": tf.stack(cropped), "numbers": samples}
    rendered = views.render(raw)
    return {key: keras.ops.convert_to_tensor(np.asarray(value)) for key, value in raw.items()}, rendered


@pytest.mark.parametrize("equal", [True, False])
def test_the_device_makes_the_same_views_to_one_gray_level(equal):
    layer = RenderViews.from_config(RenderViews(SIZE).get_config())
    levels = []
    for first in range(0, 8, 2):
        raw, rendered = raw_and_rendered(first, equal)
        found = layer({**raw, "visible_ids": keras.ops.zeros((2, 1), "int32")})
        assert set(found) == {"view_1", "view_2", "visible_ids"}
        for key in ("view_1", "view_2"):
            levels.append(np.abs(keras.ops.convert_to_numpy(found[key]) - rendered[key].numpy()) * color.STD)
    # A value midway between two levels may be rounded differently.
    assert np.mean(np.array(levels) > 1) < 1e-3
    assert np.mean(levels) < 0.01


def test_an_objective_that_makes_its_views_trains_as_on_the_views_of_the_pipeline():
    raw, rendered = raw_and_rendered(0)
    raw = {key: keras.ops.convert_to_numpy(value) for key, value in raw.items()}
    ids = {"visible_ids": np.array([[0], [3]], "int32")}
    found = {}
    for name, batch in (("host", rendered), ("device", raw)):
        keras.utils.set_random_seed(0)
        model = MAE(
            ViTEncoder(SIZE, 8, width=8, depth=1, num_heads=1), decoder_width=8, decoder_depth=1, decoder_heads=1
        )
        # XLA where the backend has it; PyTorch's compiler takes minutes on a CPU.
        model.compile(AdamW(1e-2), jit_compile=name == "device" and keras.backend.backend() != "torch")
        model.set_views(RenderViews(SIZE, view_2=None) if name == "device" else None)
        batch = {key: np.asarray(value) for key, value in {**batch, **ids}.items()}
        found[name] = [model.expected_initial_loss(batch)]
        found[name] += model.fit(batch, batch_size=2, epochs=2, verbose=0, shuffle=False).history["loss"]
    np.testing.assert_allclose(found["device"], found["host"], rtol=1e-3)


@pytest.mark.one_backend
@pytest.mark.parametrize("equal", [True, False])
def test_the_pipeline_returns_raw_batches_of_the_same_pairs(equal, tmp_path):
    for k, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / f"{k:02}.png")
    source = sources.array_source(IMAGES) if equal else sources.folder_source(tmp_path)
    views, masking = PairedViews(SIZE, seed=4), Masking((4, 4), 10, min_block=2)
    made = next(iter(pipeline.training_batches(source, views, masking, batch_size=2)))
    raw = next(iter(pipeline.training_batches(source, views, masking, batch_size=2, on_device=True)))
    rendered = RenderViews(SIZE)(raw)
    assert set(rendered) == set(made)
    for key in ("visible_ids", "relative_affine"):
        np.testing.assert_array_equal(rendered[key], made[key])
    assert np.abs(rendered["view_2"] - made["view_2"]).mean() < 1e-3
