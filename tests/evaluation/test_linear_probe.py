import keras
import numpy as np
import pytest

from keras_siamim.evaluation.features import extract_features
from keras_siamim.evaluation.linear_probe import ShuffledBatches, build_probe, linear_probe
from tests.evaluation.stand_in import batches_of, make_encoder, make_images

TRAIN, TEST = make_images(128, seed=1), make_images(50, seed=2)
QUICK = {"num_classes": 3, "batch_size": 32, "base_learning_rate": 200.0, "epochs": 15, "warmup_epochs": 1}


def test_a_frozen_encoder_is_probed_on_images_and_stays_unchanged():
    encoder = make_encoder()
    before = [w.copy() for w in encoder.get_weights()]
    encoder.dense.bias.trainable = False

    result = linear_probe(TRAIN, TEST, encoder=encoder, **QUICK)

    assert result.numbers["top1"] > 0.6
    for weight, old in zip(encoder.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert encoder.dense.kernel.trainable
    assert not encoder.dense.bias.trainable


def test_images_and_extracted_features_give_the_same_probe():
    encoder = make_encoder()
    features = [extract_features(encoder, batches_of(*split, 64)).mean for split in (TRAIN, TEST)]

    by_features = linear_probe((features[0], TRAIN[1]), (features[1], TEST[1]), **QUICK)
    by_images = linear_probe(TRAIN, batches_of(*TEST, 16), encoder=encoder, **QUICK)

    assert by_features.numbers["train_loss"] == pytest.approx(by_images.numbers["train_loss"], rel=1e-3)
    assert by_features.settings | {"inputs": "images"} == by_images.settings


def test_the_probe_is_batch_norm_without_affine_and_a_small_normal_kernel():
    probe = build_probe((64,), 100)

    assert [tuple(weight.shape) for weight in probe.trainable_weights] == [(64, 100), (100,)]
    kernel = keras.ops.convert_to_numpy(probe.trainable_weights[0])
    assert kernel.std() == pytest.approx(0.01, rel=0.05)
    assert probe.get_layer("probe_norm").epsilon == 1e-6


def test_the_learning_rate_scales_with_the_batch_and_a_note_reports_a_reduced_batch():
    result = linear_probe(
        (TRAIN[0].reshape(128, -1), TRAIN[1]), (TEST[0].reshape(50, -1), TEST[1]), 3, epochs=2, warmup_epochs=1
    )

    assert result.settings["learning_rate"] == pytest.approx(0.1 * 128 / 256)
    assert result.notes[0] == "The batch of 16384 was reduced to 128, the number of training images."
    assert result.notes[1].startswith("Undertrained")


def test_batches_are_complete_reshuffled_and_replayable():
    ids = np.arange(10)
    one, again = (ShuffledBatches(ids, ids, 4, seed=3) for _ in range(2))

    first = np.concatenate([one[i][0] for i in range(len(one))])
    one.on_epoch_end()
    second = np.concatenate([one[i][0] for i in range(len(one))])

    assert len(one) == 2
    assert len(set(first)) == 8
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, np.concatenate([again[i][1] for i in range(2)]))


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("`num_classes` must be 2 or more", {"num_classes": 1}),
        ("`warmup_epochs` must be 0 or more and below", {"warmup_epochs": 15}),
        ("`train labels` must be in \\[0, 2\\)", {"num_classes": 2}),
    ],
)
def test_settings_out_of_range_are_refused(message, changes):
    with pytest.raises(ValueError, match=message):
        linear_probe(TRAIN, TEST, encoder=make_encoder(), **QUICK | changes)


@pytest.mark.one_backend
@pytest.mark.parametrize("test", [(TEST[0][:0], TEST[1][:0]), [], [(TEST[0][:0], TEST[1][:0])]])
def test_an_empty_test_split_is_refused(test):
    with pytest.raises(ValueError, match="`test` must hold at least one image. Received: an empty split"):
        linear_probe(TRAIN, test, encoder=make_encoder(), **QUICK)


@pytest.mark.one_backend
def test_an_iterator_which_can_be_read_only_once_is_refused():
    with pytest.raises(ValueError, match="`test` must be a list or data set of batches.*Received: an iterator"):
        linear_probe(TRAIN, iter(batches_of(*TEST, 16)), encoder=make_encoder(), **QUICK)


def test_nan_inputs_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        linear_probe((TRAIN[0] * np.nan, TRAIN[1]), TEST, encoder=make_encoder(), **QUICK)
