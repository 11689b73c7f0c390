import keras
import numpy as np
import pytest
import torch

from benchmarks.plain_pytorch import PlainSiameseIM, PlainStep
from keras_siamim import AdamW, SiameseIM, ViTEncoder
from keras_siamim.convert.names import siamese_im_names, to_torch


def ours_and_plain():
    encoder = ViTEncoder(image_size=32, patch_size=8, width=24, depth=2, num_heads=3)
    ours = SiameseIM(encoder, decoder_width=32, decoder_heads=4, decoder_depth=2, target_momentum=0.99)
    ours.compile(AdamW(1e-3, global_clipnorm=1.0))
    plain = PlainSiameseIM(32, 8, 24, 2, 3, 32, 4, decoder_depth=2)
    plain.load_by_name({name: to_torch(slot) for name, slot in siamese_im_names(ours).items()})
    return ours, PlainStep(plain, learning_rate=1e-3, momentum=0.99)


def random_batch(rng, images=6):
    scales = rng.uniform(0.5, 1.5, (images, 2)) * np.where(rng.random((images, 2)) < [0, 0.5], -1, 1)
    return {
        "view_1": rng.normal(size=(images, 32, 32, 3)).astype("float32"),
        "view_2": rng.normal(size=(images, 32, 32, 3)).astype("float32"),
        "relative_affine": np.concatenate([rng.uniform(-0.5, 0.5, (images, 2)), scales], axis=1).astype("float32"),
        "visible_ids": np.sort(np.argsort(rng.random((images, 16)), axis=1)[:, :6], axis=1).astype("int32"),
    }


@pytest.mark.one_backend("torch")  # the recordings compare ours on every backend
def test_the_plain_step_computes_what_ours_does(rng):
    ours, plain = ours_and_plain()
    for _ in range(3):  # the later losses are equal only if clip, AdamW and momentum update were
        batch = random_batch(rng)
        expected = float(plain({name: torch.tensor(array) for name, array in batch.items()}))
        logs = ours.train_on_batch(batch, return_dict=True)
        ours.reset_metrics()
        np.testing.assert_allclose(float(logs["loss"]), expected, rtol=1e-5)
    target = dict(plain.model.target.named_parameters())["blocks.1.mlp.fc1.weight"]
    kernel = keras.ops.convert_to_numpy(ours.target.encoder.blocks[1].mlp.expand.kernel)
    np.testing.assert_allclose(kernel.T, target.detach().numpy(), rtol=1e-5, atol=1e-6)
