"""Training on many devices equals training on one; a step that fails on one replica is skipped on all."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

pytestmark = pytest.mark.slow

BACKEND = keras.config.backend()
# Groups of settings, see the program. TensorFlow has one strategy per process, PyTorch one device per process. For
# TensorFlow a strategy of 4 devices is that of 2, and each device makes the graph longer.
GROUPS = {"tensorflow": ["1,2", "workers"], "jax": ["1,2", "4,4x2", "workers"], "torch": ["1", "2", "4"]}[BACKEND]
SETTINGS = ",".join(GROUPS).split(",")
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Weights and logs by setting."""
    folder = tmp_path_factory.mktemp("devices")
    command = [sys.executable, "-m", "tests.programs.train_on_devices", str(folder), *GROUPS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {setting: dict(np.load(folder / f"{setting}.npz")) for setting in SETTINGS}


def errors(one, many):
    """Largest difference of a weight per objective, relative to the objective's largest weight."""
    result = {}
    for key, value in many.items():
        objective, _, path = key.partition("/")
        if (
            objective not in ("random", "observed")
            and path
            and not path.startswith("logs/")
            and value.dtype.kind == "f"
        ):
            largest = max(np.abs(v).max() for k, v in one.items() if k.startswith(objective) and v.dtype.kind == "f")
            result[objective] = max(result.get(objective, 0.0), np.abs(value - one[key]).max() / largest)
    return result


@pytest.mark.parametrize("setting", SETTINGS[1:])
def test_the_weights_are_those_of_one_device(trained, setting):
    found = errors(trained["1"], trained[setting])
    print(f"{BACKEND:10} {trained[setting]['name']!s:45}", *(f"{name} {worst:.1e}" for name, worst in found.items()))
    assert found
    assert max(found.values()) < TOLERANCE


@pytest.mark.parametrize("setting", SETTINGS[1:])
def test_a_bad_image_on_one_replica_is_skipped_by_all_and_counted(trained, setting):
    many = trained[setting]
    for objective in {key.partition("/")[0] for key in many} - {"name", "random"}:
        assert many[f"{objective}/logs/skipped"] == 1
        assert many[f"{objective}/logs/skipped_in_a_row"] == 0
        assert np.isfinite(many[f"{objective}/logs/loss"])


def test_callbacks_that_measure_features_change_no_bit_on_two_devices(trained):
    found = {key.removeprefix("observed/"): value for key, value in trained["2"].items() if key.startswith("observed/")}
    assert {"logs/knn", "logs/rank"} <= set(found)
    alone = {
        key.removeprefix("SiameseIM/"): value for key, value in trained["2"].items() if key.startswith("SiameseIM/")
    }
    assert {"logs/loss", "0 kernel"} <= set(alone)
    for key, value in alone.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_one_device_skips_nothing(trained):
    assert {trained["1"][key].item() for key in trained["1"] if key.endswith("logs/skipped")} == {0}


@pytest.mark.parametrize("setting", SETTINGS[1:])
def test_replicas_draw_different_random_numbers_and_end_with_one_state(trained, setting):
    # JAX runs one program, with one random number for all devices.
    assert (trained[setting]["random/spread"] > 0) == (BACKEND != "jax")
    np.testing.assert_array_equal(trained[setting]["random/state"], trained["1"]["random/state"])
