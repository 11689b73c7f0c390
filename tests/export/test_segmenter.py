"""SavedModels of segmenters equal Keras on images of any size."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_siamim import ViTEncoder
from keras_siamim.export import export_segmenter
from keras_siamim.export.segmenter import keras_scores
from keras_siamim.segmentation import UPerNet

# PyTorch compiles nothing, and exports in a process of TensorFlow, as JAX does. `tests/cli/test_segment.py` exports on
# TensorFlow.
pytestmark = [pytest.mark.slow, pytest.mark.one_backend("torch")]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    encoder = ViTEncoder(image_size=16, patch_size=8, width=8, depth=4, num_heads=2)
    return UPerNet(encoder, num_classes=3, crop_size=(16, 24), auxiliary_width=8)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return export_segmenter(model, tmp_path_factory.mktemp("models") / "roads", short_side=24)


def test_the_file_segments_images_of_any_size(model, exported, rng):
    served = tf.saved_model.load(str(exported.path)).signatures["serving_default"]

    for size in [(24, 24), (10, 31), (61, 40)]:
        image = rng.integers(0, 256, (*size, 3), "uint8")
        outputs = served(images=tf.constant(image[None]))
        expected = keras_scores(model, image, short_side=24)
        np.testing.assert_allclose(outputs["scores"][0], expected, atol=1e-5)
        np.testing.assert_array_equal(outputs["label_map"][0], outputs["scores"][0].numpy().argmax(-1))
    assert exported.error < 1e-5
    assert exported.path.name == "1"
    assert (exported.path / "assets.extra" / "tf_serving_warmup_requests").is_file()


@pytest.mark.one_backend
def test_images_of_one_batch_do_not_affect_each_other(exported, rng):
    served = tf.saved_model.load(str(exported.path)).signatures["serving_default"]
    images = rng.integers(0, 256, (2, 30, 20, 3), "uint8")

    both = served(images=tf.constant(images))["scores"].numpy()
    alone = [served(images=tf.constant(image[None]))["scores"][0].numpy() for image in images]

    np.testing.assert_allclose(both, alone, atol=1e-6)


@pytest.mark.one_backend
def test_bad_arguments_are_refused(model, exported):
    with pytest.raises(ValueError, match="`version` must not exist yet. Received: 1"):
        export_segmenter(model, exported.path.parent, version=1)
    with pytest.raises(ValueError, match="`short_side` must be a whole number, 1 or more. Received: 0"):
        export_segmenter(model, exported.path.parent, short_side=0)
    with pytest.raises(ValueError, match="`model` must be a UPerNet. Received: ViTEncoder"):
        export_segmenter(ViTEncoder(image_size=16, patch_size=8, width=8, depth=1, num_heads=2), "anywhere")
