import pytest
from keras import ops

from benchmarks.scaling import Accelerator, Run, expected
from keras_siamim import SiameseIM, ViTEncoder

pytestmark = pytest.mark.one_backend("torch")


def test_trained_weights_are_those_of_the_model():
    encoder = ViTEncoder.from_preset("vit_tiny_patch16_32")
    model = SiameseIM(encoder, decoder_width=64, decoder_heads=2)
    counted = sum(int(ops.size(weight)) for weight in model.trainable_variables)
    assert Run("tiny", decoder_width=64).trained_weights == counted


def test_one_device_does_not_communicate():
    row = expected(Run("base", batch=64), 1, 0.5, Accelerator(latency=0.0))
    assert row["communication_seconds"] == 0
    assert row["step_seconds"] == pytest.approx(64 * Run("base").image_flops / (0.5 * 989e12))


def test_days_follow_from_images_per_second():
    row = expected(Run("large", epochs=10), 64, 0.4)
    assert row["days"] * 86400 * row["images_per_second"] == pytest.approx(10 * 1_281_167)
    assert row["dollars"] == pytest.approx(row["days"] * 24 * 64 * 2.5)


def test_more_devices_are_faster_and_more_expensive():
    rows = [expected(Run("base"), devices, 0.5) for devices in (8, 64, 256)]
    assert [row["days"] for row in rows] == sorted((row["days"] for row in rows), reverse=True)
    assert [row["dollars"] for row in rows] == sorted(row["dollars"] for row in rows)


def test_a_slow_network_costs_time():
    fast, slow = (expected(Run("base"), 64, 0.5, Accelerator(network=network)) for network in (50e9, 1e9))
    assert slow["communication_seconds"] > 10 * fast["communication_seconds"]
