"""Dense tasks on a ConvNeXt: its stages are the feature pyramid."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim import ConvNeXtEncoder
from keras_siamim.backbones.stage_maps import StageMaps
from keras_siamim.detection import DetectorSettings, MaskRCNN
from keras_siamim.detection.pyramid import FeaturePyramid
from keras_siamim.optimizers import LayerDecayAdamW
from keras_siamim.segmentation import UPerNet
from tests.detection.test_detector import CLASSES, SIZE, SMALL, square_images
from tests.segmentation.test_upernet import CROP, color_images

# Encoder and heads are tested on every backend on their own.
pytestmark = pytest.mark.one_backend("torch")


def encoder(widths=(4, 4, 8, 8), depths=(1, 1, 1, 1)):
    return ConvNeXtEncoder(image_size=16, stem=2, widths=widths, depths=depths)


def trained_on(model, source, batch, labels=None):
    """Compile with layer decay by stage, train one step, and return the loss."""
    layers = [source.layer_of(variable.path) for variable in model.trainable_variables]
    assert set(layers) == {0, 1, 2, 3, 4, None}
    model.compile(LayerDecayAdamW(1e-2, depth=source.num_layers - 1, layers=layers))
    return model.fit(batch, labels, batch_size=4, epochs=3, verbose=0).history["loss"]


def test_the_maps_are_the_normalized_stages_of_the_encoder(rng):
    source = encoder()
    images = rng.normal(size=(1, 32, 32, 3)).astype("float32")
    backbone = StageMaps(source, 32)
    assert backbone.strides == [2, 4, 8, 16]
    for found, stage in zip(backbone(images), source.feature_maps(images), strict=True):
        x = ops.convert_to_numpy(stage)
        expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        np.testing.assert_allclose(ops.convert_to_numpy(found), expected, atol=1e-4)


def test_the_top_down_path_adds_the_smaller_maps(rng):
    pyramid = FeaturePyramid(width=4)
    maps = [np.zeros((1, side, side, 4), "float32") for side in (8, 4, 2, 1)]
    quiet = pyramid(maps)
    maps[-1] = rng.normal(size=(1, 1, 1, 4)).astype("float32")
    for before, after in zip(quiet, pyramid(maps), strict=True):
        assert np.any(ops.convert_to_numpy(before) != ops.convert_to_numpy(after))


def test_upernet_learns_and_survives_saving(tmp_path):
    keras.utils.set_random_seed(0)
    source = encoder()
    model = UPerNet(source, 3, crop_size=CROP, head_width=6, auxiliary_width=5)
    images, labels = color_images(4)
    losses = trained_on(model, source, images, labels)
    assert losses[-1] < losses[0]
    model.save(tmp_path / "segmenter.keras")
    loaded = keras.saving.load_model(tmp_path / "segmenter.keras")
    logits = model.predict(images, verbose=0)
    assert logits.shape == (4, CROP // 2, CROP // 2, 3)
    np.testing.assert_allclose(loaded.predict(images, verbose=0), logits, atol=1e-6)


def test_the_detector_learns_and_survives_saving(tmp_path):
    keras.utils.set_random_seed(0)
    source = encoder()
    model = MaskRCNN(source, CLASSES, SIZE, settings=DetectorSettings(**SMALL), seed=0)
    batch = square_images(4)
    losses = trained_on(model, source, batch)
    assert losses[-1] < losses[0]
    model.save(tmp_path / "detector.keras")
    loaded = keras.saving.load_model(tmp_path / "detector.keras")
    wanted = {name: batch[name] for name in ("images", "sizes")}
    for one, other in zip(*(m.predict(wanted, verbose=0).values() for m in (model, loaded)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    "build",
    [
        lambda source: UPerNet(source, 3, crop_size=CROP),
        lambda source: MaskRCNN(source, 3, CROP),
    ],
    ids=["UPerNet", "MaskRCNN"],
)
def test_fewer_than_four_stages_are_refused_by_name(build):
    with pytest.raises(ValueError, match="4 stages.*ConvNeXtEncoder with 2 of them.*frozen patch features"):
        build(encoder(widths=(4, 8), depths=(1, 1)))
