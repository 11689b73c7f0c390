import numpy as np
import pytest
from keras import ops

from keras_siamim.evaluation.attentive_heads import build_heads
from keras_siamim.evaluation.attentive_probe import EpochBatches, _sum_of_losses, attentive_probe
from keras_siamim.evaluation.few_shot import hold_out
from keras_siamim.optimizers import ParallelAdamW
from tests.evaluation.stand_in import batches_of, make_encoder, make_images

CLASSES, PATCHES, WIDTH = 3, 6, 16
QUICK = {"learning_rates": (1e-4, 0.03), "weight_decays": (0.0, 0.05), "batch_size": 32, "epochs": 12}


def tokens_of(images, seed):
    """Tokens of which one random patch shows the class and the others are noise: a mean over patches sees little."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, images)
    tokens = random.normal(size=(images, PATCHES, WIDTH))
    tokens[np.arange(images), random.integers(0, PATCHES, images)] = 4 * np.eye(CLASSES, WIDTH)[labels]
    return tokens.astype("float32"), labels


TRAIN, TEST = tokens_of(160, 1), tokens_of(60, 2)


@pytest.fixture(scope="module")
def result():
    return attentive_probe(TRAIN, TEST, CLASSES, **QUICK)


def trained(rates, decays):
    model = build_heads((PATCHES, WIDTH), len(rates), CLASSES)
    model.compile(ParallelAdamW(rates, decays), _sum_of_losses)
    model.fit(EpochBatches([TRAIN[0]], TRAIN[1], np.arange(160), 32), epochs=2, shuffle=False, verbose=0)
    return [ops.convert_to_numpy(weight) for weight in model.weights]


def test_heads_that_are_trained_together_equal_heads_that_are_trained_alone():
    together, alone = trained([0.01, 0.03], [0.0, 0.05]), trained([0.03], [0.05])

    for both, one in zip(together, alone, strict=True):
        np.testing.assert_allclose(both[1:], one, rtol=1e-3, atol=1e-5)
        assert not np.allclose(both[0], one[0]) or not one.any()  # the bias of the keys stays 0


def test_the_better_learning_rate_is_selected_and_finds_the_patch(result):
    assert result.numbers["learning_rate"] == 0.03
    assert result.numbers["top1"] > 0.8
    assert result.settings["steps"] == 12 * (144 // 32)
    assert "without augmentation" in result.notes[0]
    assert "48 steps, 12 epochs of this data set, in place of 12,500" in result.notes[1]


@pytest.mark.one_backend("torch")
def test_the_settings_are_selected_without_the_test_split(result):
    other = attentive_probe(TRAIN, (TEST[0], np.roll(TEST[1], 1)), CLASSES, **QUICK)

    selected = ("top1_held_out", "learning_rate", "weight_decay")
    assert [other.numbers[key] for key in selected] == [result.numbers[key] for key in selected]
    assert other.numbers["top1"] < result.numbers["top1"]


@pytest.mark.one_backend("torch")
def test_a_data_set_of_images_and_an_encoder_equal_the_tokens():
    encoder, (images, labels), test = make_encoder(), make_images(96, seed=1), make_images(40, seed=2)
    before = [weight.copy() for weight in encoder.get_weights()]
    settings = {"learning_rates": (0.01,), "weight_decays": (0.05,), "epochs": 2}
    fit, held_out = hold_out(labels, 0.25)
    selection = (images[held_out], labels[held_out])
    tokens = [ops.convert_to_numpy(encoder(x))[:, 1:] for x in (images, images[held_out], test[0])]

    by_images = attentive_probe(
        EpochBatches([images], labels, fit, 16), batches_of(*test, 20), 3, encoder, selection=selection, **settings
    )
    by_tokens = attentive_probe(
        EpochBatches([tokens[0]], labels, fit, 16),
        (tokens[2], test[1]),
        3,
        selection=(tokens[1], selection[1]),
        **settings,
    )

    assert by_images.numbers == pytest.approx(by_tokens.numbers)
    assert (by_images.settings["inputs"], by_images.notes) == ("images", by_tokens.notes)
    for weight, old in zip(encoder.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.one_backend("torch")
def test_augmented_epochs_are_used_in_turn_for_the_chosen_images():
    epochs, ids = [np.full((8, 2), epoch) + np.arange(8)[:, None] for epoch in (0, 100)], np.array([1, 3, 4, 6])
    batches = EpochBatches(epochs, np.arange(8), ids, batch_size=2)

    for epoch in (0, 100, 0):
        inputs, labels = (np.concatenate(parts) for parts in zip(*(batches[i] for i in range(2)), strict=True))
        assert sorted(labels) == ids.tolist()
        np.testing.assert_array_equal(inputs[:, 0], labels + epoch)
        batches.on_epoch_end()


@pytest.mark.one_backend("torch")
@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("`num_classes` must be 2 or more", {"num_classes": 1}),
        ("`train labels` must be in \\[0, 2\\)", {"num_classes": 2}),
        ("`learning_rates` must be one or more values above 0", {"learning_rates": (0.0,)}),
        ("`weight_decays` must be one or more values of 0 or more", {"weight_decays": ()}),
        ("`epochs` must be 1 or more", {"epochs": 0}),
        ("`batch_size` must be 1 or more", {"batch_size": 0}),
        ("`held_out` must be in \\(0, 1\\)", {"held_out": 1.0}),
        ("`encoder` must be a keras.Model", {"encoder": len}),
        ("`train` must be a data set of batches of images", {"encoder": make_encoder()}),
        ("`train tokens` must be a non-empty", {"train": (TRAIN[0][0], TRAIN[1])}),
        ("`train tokens` must be finite", {"train": (TRAIN[0] * np.nan, TRAIN[1])}),
        ("`augmented` must have arrays of the shape", {"augmented": [TRAIN[0][:5]]}),
        ("`selection` must hold the images", {"train": EpochBatches([TRAIN[0]], TRAIN[1], np.arange(9), 3)}),
    ],
)
def test_arguments_out_of_range_are_refused(message, changes):
    with pytest.raises(ValueError, match=message):
        attentive_probe(**{"train": TRAIN, "test": TEST, "num_classes": CLASSES, **QUICK, **changes})
