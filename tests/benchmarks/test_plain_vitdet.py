import numpy as np
import pytest
import torch

from benchmarks.plain_vitdet import PlainMaskRCNN, PlainMaskRCNNStep
from keras_siamim import ViTEncoder
from keras_siamim.convert.names import to_torch
from keras_siamim.convert.vitdet import mask_rcnn_names
from keras_siamim.detection import DetectorSettings, MaskRCNN
from keras_siamim.optimizers import LayerDecayAdamW

SETTINGS = DetectorSettings(
    anchor_sizes=(4, 8, 16, 32, 64),
    anchors_sampled=32,
    pre_nms_train=60,
    post_nms_train=30,
    regions_sampled=16,
    canonical_size=14,
    pyramid_width=8,
    head_width=8,
    dense_width=16,
)
SIZE, OBJECTS, GLOBAL = 64, 3, (1, 3)


class Ours(MaskRCNN):
    """Detector whose samples are decided by fixed numbers."""

    draws: dict

    def draw(self, purpose, shape):
        return torch.tensor(self.draws[purpose])


@pytest.mark.one_backend("torch")  # the recordings compare ours on every backend
def test_the_plain_step_computes_what_ours_does(rng):
    encoder = ViTEncoder(image_size=SIZE, patch_size=8, width=12, depth=4, num_heads=3)
    ours = Ours(encoder, 5, SIZE, settings=SETTINGS, window_size=3, global_blocks=GLOBAL, drop_path_rate=0.0)
    ours.compile(LayerDecayAdamW(1e-3, depth=4, layer_decay=0.7, weight_decay=0.1))
    plain = PlainMaskRCNN(SIZE, 8, 12, 4, 3, classes=5, window=3, global_blocks=GLOBAL, settings=SETTINGS)
    plain.load_by_name({name: to_torch(slot) for name, slot in mask_rcnn_names(ours).items()})
    step = PlainMaskRCNNStep(plain, learning_rate=1e-3)

    for _ in range(2):  # the second loss is equal only if AdamW and its layer decay were
        images = rng.normal(size=(2, SIZE, SIZE, 3)).astype("float32")
        corners = rng.uniform(0, 40, (2, OBJECTS, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(8, 24, (2, OBJECTS, 2))], 2).astype("float32")
        classes = rng.integers(0, 5, (2, OBJECTS))
        masks = rng.integers(0, 2, (2, OBJECTS, SIZE, SIZE)).astype("uint8")
        anchors = sum(3 * (SIZE // stride) ** 2 for stride in (2, 4, 8, 16, 32))
        ours.draws = {
            "anchors": rng.uniform(size=(2, anchors)).astype("float32"),
            "regions": rng.uniform(size=(2, SETTINGS.post_nms_train + OBJECTS)).astype("float32"),
        }
        draws = {name: torch.tensor(value) for name, value in ours.draws.items()}
        truth = (torch.tensor(boxes), torch.tensor(classes), torch.tensor(masks).float())
        expected = float(step(torch.tensor(images), *truth, draws))
        sizes = np.full((2, 2), SIZE, "int32")
        batch = {"images": images, "sizes": sizes, "boxes": boxes, "classes": classes.astype("int32"), "masks": masks}
        loss = float(ours.train_on_batch(batch, return_dict=True)["loss"])
        ours.reset_metrics()
        np.testing.assert_allclose(loss, expected, rtol=2e-5)
