import keras
import numpy as np
import pytest
from keras import ops

from keras_siamim.callbacks import FeatureHealth, LiveEncoder
from keras_siamim.evaluation.patch_features import RawPatches

pytestmark = pytest.mark.one_backend

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(32, 8, 8, 3)).astype("float32")
CROPS = np.stack([IMAGES, IMAGES + 0.5 * RNG.normal(size=IMAGES.shape).astype("float32")])


class Features(keras.Model):
    """Encoder that adds pixels of patches, a constant and positions; `pixels` can change while it is observed."""

    def __init__(self, pixels, constant=0.0, positions=0.0, live_channels=48):
        super().__init__()
        self.raw = RawPatches(4)
        self.pixels = self.add_weight(shape=(), initializer=keras.initializers.Constant(pixels), name="pixels")
        self.constant = constant
        self.live = (np.arange(48) < live_channels).astype("float32")
        self.positions = positions * np.random.default_rng(1).normal(size=(5, 48)).astype("float32")

    def call(self, images, training=False):
        return self.pixels * self.live * self.raw(images) + self.constant + ops.convert_to_tensor(self.positions)


def observe(encoder, steps, crops=CROPS, **arguments):
    lines = []
    health = FeatureHealth(crops, every_steps=1, encoder=LiveEncoder(encoder, batch_size=32), report=lines.append)
    for name, value in arguments.items():
        setattr(health, name, value)
    health.set_model(encoder)
    health.set_params({"epochs": 100})
    health.on_train_begin()
    health.on_epoch_begin(0)
    for step in range(steps):
        health.on_train_batch_end(step)
    return health, lines


def test_features_that_tell_images_apart_are_healthy():
    health, lines = observe(Features(pixels=1.0), steps=5)
    assert lines == health.alarms == []
    assert [step for step, _ in health.history] == [0, 1, 2, 3, 4, 5]
    latest = health.history[-1][1]["encoder"]
    assert latest.same_image > 0.9
    assert latest.dead_channels == 0
    logs = {}
    health.on_epoch_end(0, logs)
    assert logs == {
        "rank": latest.rank,
        "spread": latest.spread,
        "dead_channels": 0,
        "same_image": latest.same_image,
        "collapsed": 0,
    }


def test_epochs_log_only_what_was_measured_in_them_and_the_last_one_measures():
    encoder = Features(pixels=1.0)
    health = FeatureHealth(CROPS, every_steps=3, encoder=LiveEncoder(encoder, batch_size=32))
    health.set_model(encoder)
    health.set_params({"epochs": 4})
    health.on_train_begin()
    rows = []
    for epoch in range(4):
        health.on_epoch_begin(epoch)
        health.on_train_batch_end(0)
        encoder.pixels.assign(1.0 + epoch)
        rows.append({})
        health.on_epoch_end(epoch, rows[-1])
    assert [step for step, _ in health.history] == [0, 3, 4]
    assert [bool(row) for row in rows] == [False, False, True, True]


def test_logs_say_whether_the_alarm_lasts():
    health, (alarm,) = observe(Features(pixels=1e-4, constant=1.0), steps=3)
    logs = {}
    health.on_epoch_end(0, logs)
    assert logs["collapsed"] == 1


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (Features(pixels=1e-4, constant=1.0), "Features of the encoder: effective rank 1."),
        (Features(pixels=1e-4, positions=1.0), "Features of the encoder: effective rank 1."),
        (Features(pixels=0.2, constant=1.0), "of their energy differs between images"),
        (Features(pixels=1.0, live_channels=24), "50% of the channels are the same for all images"),
    ],
    ids=["constant", "positions alone", "almost constant", "dead channels"],
)
def test_collapsed_features_raise_one_alarm_with_remedies_after_some_measurements(encoder, words):
    health, lines = observe(encoder, steps=1)
    assert lines == []
    health, lines = observe(encoder, steps=6)
    (alarm,) = lines
    assert words in alarm
    assert "in 3 measurements in a row, steps 0 to 2" in alarm
    assert "negative_weight" in alarm


def test_features_that_do_not_find_the_other_crop_of_an_image_raise_an_alarm():
    unrelated = np.stack([IMAGES, RNG.normal(size=IMAGES.shape).astype("float32")])
    _, (alarm,) = observe(Features(pixels=1.0), steps=4, crops=unrelated)
    assert "hardly depend on the image" in alarm
    assert "50% is chance" in alarm


def test_an_alarm_is_repeated_only_after_features_were_healthy_again():
    encoder = Features(pixels=1e-4, constant=1.0)
    health, lines = observe(encoder, steps=9)
    assert len(lines) == 1
    for pixels, count in ((1.0, 1), (1e-4, 2)):
        encoder.pixels.assign(pixels)
        for step in range(4):
            health.on_train_batch_end(step)
        assert len(lines) == count


@pytest.mark.parametrize(
    ("crops", "reason"),
    [
        (CROPS[:, :1], "two or more images are needed, there are 1"),
        (np.ones_like(CROPS), "all images look the same"),
        (np.full_like(CROPS, np.nan), "the features are not finite"),
    ],
    ids=["one image", "one color", "NaN"],
)
def test_images_that_cannot_be_measured_are_reported_once(crops, reason):
    health, (line,) = observe(Features(pixels=1.0), steps=3, crops=crops)
    assert reason in line
    assert line.endswith("Training goes on.")
    logs = {}
    health.on_epoch_end(0, logs)
    assert logs == {}


def test_three_images_are_enough():
    health, lines = observe(Features(pixels=1.0), steps=3, crops=CROPS[:, :3])
    assert lines == []
    assert 1 <= health.history[-1][1]["encoder"].rank <= 3.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crops": IMAGES}, r"`crops` must be \(2, images"),
        ({"every_steps": 0}, "`every_steps` must be 1 or more"),
        ({"patience": 0}, "`patience` must be 1 or more"),
        ({"min_rank": 2.0}, r"`min_rank` must be in \[0, 1\]"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FeatureHealth(**{"crops": CROPS, **arguments})
