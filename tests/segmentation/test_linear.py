import numpy as np
import pytest

from keras_siamim import ViTEncoder
from keras_siamim.evaluation import RawPatches
from keras_siamim.segmentation import linear_segmentation, score_images

SIZE = 8


def examples(count, rng, shape=(SIZE, SIZE)):
    """Images whose left part is dark and whose right part is bright, with some ignored pixels."""
    for _ in range(count):
        edge = 2 * rng.integers(1, shape[1] // 2)
        labels = np.zeros(shape, "uint8")
        labels[:, edge:] = 1
        image = labels[..., None] * 2.0 - 1 + 0.3 * rng.normal(size=(*shape, 3))
        labels[0] = 255
        yield image.astype("float32"), labels


def batches(count, rng):
    pairs = [list(examples(4, rng)) for _ in range(count)]
    return [(np.stack([image for image, _ in pair]), np.stack([labels for _, labels in pair])) for pair in pairs]


def test_a_linear_head_on_raw_patches_segments_by_brightness(rng):
    test = list(examples(4, rng, shape=(SIZE, 14)))
    result = linear_segmentation(
        RawPatches(2), batches(5, rng), test, 2, window=SIZE, steps=60, warmup_steps=5, learning_rate=0.05
    )
    assert result.numbers["miou"] > 0.85
    assert "steps is 60, 40000 in the protocol." in result.notes


@pytest.mark.one_backend
def test_the_encoder_stays_as_it_is(rng):
    encoder = ViTEncoder(image_size=SIZE, patch_size=4, width=8, depth=1, num_heads=2)
    before = encoder.get_weights()
    linear_segmentation(encoder, batches(1, rng), examples(1, rng), 2, window=SIZE, steps=2, warmup_steps=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, encoder.get_weights(), strict=True))
    assert all(weight.trainable for weight in encoder.trainable_weights)


@pytest.mark.one_backend
def test_scores_count_the_pixels_of_the_original_size():
    labels = np.zeros((4, 4), "uint8")
    labels[:, 2:] = 1
    logits = np.zeros((2, 2, 2), "float32")
    logits[:, 0, 0] = logits[:, 1, 1] = 1
    scores = score_images(lambda image: logits, [(np.zeros((2, 2, 3)), labels)], 2, ignore=255)
    assert scores.mean_iou == 1


@pytest.mark.one_backend
def test_bad_settings_are_refused(rng):
    arguments = {"encoder": RawPatches(2), "train": [], "test": [], "num_classes": 2, "window": SIZE}
    with pytest.raises(ValueError, match="`warmup_steps` must be 0 or more and below `steps`"):
        linear_segmentation(**arguments, steps=3, warmup_steps=3)
    with pytest.raises(ValueError, match="`train` must yield batches until 3 steps are taken. Received: 0"):
        linear_segmentation(**arguments, steps=3, warmup_steps=1)
