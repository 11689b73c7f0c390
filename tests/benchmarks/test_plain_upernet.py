import numpy as np
import pytest
import torch

from benchmarks.plain_upernet import PlainUPerNet, PlainUPerNetStep
from keras_siamim import ViTEncoder
from keras_siamim.convert.names import to_torch
from keras_siamim.convert.upernet import upernet_names
from keras_siamim.optimizers import LayerDecayAdamW
from keras_siamim.segmentation import UPerNet


@pytest.mark.one_backend("torch")  # the recordings compare ours on every backend
def test_the_plain_step_computes_what_ours_does(rng):
    encoder = ViTEncoder(image_size=48, patch_size=8, width=12, depth=4, num_heads=3)
    sizes = {"head_width": 8, "auxiliary_width": 6}
    ours = UPerNet(encoder, 5, crop_size=48, drop_path_rate=0.0, dropout=0.0, **sizes)
    ours.compile(LayerDecayAdamW(1e-3, depth=4, layer_decay=0.65, decay_tokens=True), run_eagerly=True)
    plain = PlainUPerNet(48, 8, 12, 4, 3, classes=5, taps=(1, 2, 3, 4), dropout=0.0, **sizes)
    plain.load_by_name({name: to_torch(slot) for name, slot in upernet_names(ours).items()})
    step = PlainUPerNetStep(plain, learning_rate=1e-3)

    for _ in range(2):  # the second loss is equal only if AdamW and its layer decay were
        images = rng.normal(size=(2, 48, 48, 3)).astype("float32")
        labels = rng.choice([0, 1, 2, 3, 4, 255], size=(2, 48, 48)).astype("uint8")
        expected = float(step(torch.tensor(images), torch.tensor(labels.astype("int64"))))
        logs = ours.train_on_batch(images, labels, return_dict=True)
        ours.reset_metrics()
        np.testing.assert_allclose(float(logs["loss"]), expected, rtol=2e-5)
