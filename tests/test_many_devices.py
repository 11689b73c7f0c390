"""Training on many devices equals training on one; a step that fails on one replica is skipped on all."""

import json
import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

pytestmark = pytest.mark.slow

BACKEND = keras.config.backend()
PROGRAM = [sys.executable, "-m", "tests.programs.train_on_devices"]
# Settings of each process, see the program. TensorFlow has one strategy per process, PyTorch one device per process.
PROCESSES = {"tensorflow": [["1", "2"], ["4"]], "jax": [["1", "2"], ["4", "4x2"]], "torch": [["1", "2", "4"]]}[BACKEND]
SETTINGS = [setting for settings in PROCESSES for setting in settings]
WORKERS = [] if BACKEND == "torch" else ["workers"]
TOLERANCE = 1e-4


def environments(count):
    """Environment variables of each of `count` processes on this machine, as a launcher sets them."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in servers]
    for server in servers:
        server.close()
    for rank in range(count):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        yield {
            "TF_CONFIG": json.dumps(config),
            "JAX_COORDINATOR_ADDRESS": addresses[0],
            "JAX_NUM_PROCESSES": str(count),
            "JAX_PROCESS_ID": str(rank),
        }


def start(arguments, **environment):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", **environment}
    return subprocess.Popen(
        [*PROGRAM, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Weights and logs by setting."""
    folder = tmp_path_factory.mktemp("devices")
    virtual = {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"}
    processes = [start([str(folder), *settings], **virtual) for settings in PROCESSES]
    processes += [start([str(folder), *WORKERS], **environment) for environment in environments(2) if WORKERS]
    outputs = [process.communicate(timeout=900)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-3000:]
    return {setting: dict(np.load(folder / f"{setting}.npz")) for setting in [*SETTINGS, *WORKERS]}


def errors(one, many):
    """Largest difference of a weight per objective, relative to the objective's largest weight."""
    result = {}
    for key, value in many.items():
        objective, _, path = key.partition("/")
        if objective != "random" and path and not path.startswith("logs/") and value.dtype.kind == "f":
            largest = max(np.abs(v).max() for k, v in one.items() if k.startswith(objective) and v.dtype.kind == "f")
            result[objective] = max(result.get(objective, 0.0), np.abs(value - one[key]).max() / largest)
    return result


@pytest.mark.parametrize("setting", [*SETTINGS[1:], *WORKERS])
def test_the_weights_are_those_of_one_device(trained, setting):
    found = errors(trained["1"], trained[setting])
    print(f"{BACKEND:10} {trained[setting]['name']!s:45}", *(f"{name} {worst:.1e}" for name, worst in found.items()))
    assert found
    assert max(found.values()) < TOLERANCE


@pytest.mark.parametrize("setting", [*SETTINGS[1:], *WORKERS])
def test_a_bad_image_on_one_replica_is_skipped_by_all_and_counted(trained, setting):
    many = trained[setting]
    for objective in {key.partition("/")[0] for key in many} - {"name", "random"}:
        assert many[f"{objective}/logs/skipped"] == 1
        assert many[f"{objective}/logs/skipped_in_a_row"] == 0
        assert np.isfinite(many[f"{objective}/logs/loss"])


def test_one_device_skips_nothing(trained):
    assert {trained["1"][key].item() for key in trained["1"] if key.endswith("logs/skipped")} == {0}


@pytest.mark.parametrize("setting", [*SETTINGS[1:], *WORKERS])
def test_replicas_draw_different_random_numbers_and_end_with_one_state(trained, setting):
    # JAX runs one program, with one random number for all devices.
    assert (trained[setting]["random/spread"] > 0) == (BACKEND != "jax")
    np.testing.assert_array_equal(trained[setting]["random/state"], trained["1"]["random/state"])
