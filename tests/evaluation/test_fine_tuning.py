import keras
import numpy as np
import pytest

from keras_siamim import ViTEncoder
from keras_siamim.evaluation.fine_tuning import copy_to_train, fine_tune
from keras_siamim.evaluation.linear_probe import ShuffledBatches
from keras_siamim.optimizers import LayerDecayAdamW
from tests.evaluation.stand_in import batches_of, make_encoder, make_images

IMAGES, LABELS = make_images(96, seed=1)
TEST = batches_of(*make_images(40, seed=2), 16)
TARGETS = np.eye(3, dtype="float32")[LABELS]


def vit():
    keras.utils.set_random_seed(0)
    return ViTEncoder(image_size=8, patch_size=4, width=16, depth=2, num_heads=2)


def test_the_recipe_learns_by_fit_and_leaves_the_encoder_unchanged():
    encoder = vit()
    before = encoder.get_weights()

    classifier, result = fine_tune(
        encoder, ShuffledBatches(IMAGES, TARGETS, 32), TEST, 3, 32, base_learning_rate=0.04, epochs=12, warmup_epochs=1
    )

    assert result.numbers["top1"] > 0.6
    assert isinstance(classifier.optimizer, LayerDecayAdamW)
    assert classifier.optimizer.depth == 2
    assert classifier.encoder.drop_path_rate == 0.1
    for weight, old in zip(encoder.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_the_copy_for_training_is_trainable_even_if_pre_training_froze_the_patches():
    encoder = vit()
    for variable in encoder.patch_embedding.variables:
        variable.trainable = False

    copy = copy_to_train(encoder, 0.2)

    assert len(copy.trainable_variables) == len(copy.weights) > len(encoder.trainable_variables)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(copy(IMAGES[:2])), keras.ops.convert_to_numpy(encoder(IMAGES[:2])), atol=1e-6
    )


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("`drop_path_rate` must be 0 for an encoder without", {}),
        ("`warmup_epochs` must be", {"warmup_epochs": 100}),
        ("`label_smoothing` must be", {"label_smoothing": 1.0}),
        ("`train` must yield targets \\(batch, 4\\)", {"num_classes": 4}),
    ],
)
def test_settings_out_of_range_are_refused(message, changes):
    train = ShuffledBatches(IMAGES, TARGETS, 32)
    with pytest.raises(ValueError, match=message):
        fine_tune(
            **{"encoder": make_encoder(), "train": train, "test": TEST, "num_classes": 3, "batch_size": 32} | changes
        )


def test_integer_labels_are_refused_as_targets():
    with pytest.raises(ValueError, match="whose rows sum to 1. Received"):
        fine_tune(vit(), ShuffledBatches(IMAGES, LABELS, 32), TEST, 3, 32)
